"""The one exception that users meet."""


class InputError(ValueError):
    """Bad input. The message is one line that names the file or parameter and the remedy."""
