"""What the allocator is told, seen in the page faults of a process of its own."""

import platform
import subprocess
import sys

import pytest
from conftest import ROOT

FAULTS = """
import resource, torch
from metastyle.core.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(40 * 2**18)  # 40 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first = faults()
told = keep_freed_memory()
for _ in range(3):
    faults()
print(first, told, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_freed_blocks_are_used_again():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    before, told, after = done.stdout.split()
    assert told == "True"
    assert int(after) < 0.1 * int(before)
