"""The C library's memory allocator, told to keep what large images need."""

import ctypes
import platform

# mallopt's numbers in glibc's <malloc.h>
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process reuse large blocks of memory that it has freed.

    glibc gives blocks beyond 32 MiB back to the system at once, and the system clears every page
    of the next one, which takes a good part of a large image's time. The price is that the
    process stays as large as it ever was.

    Returns:
        Whether this C library can be told so; where it cannot, nothing changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: _LARGEST, M_TOP_PAD: 2**26}
    return all(mallopt(option, value) == 1 for option, value in options.items())
