"""The exceptions that are ours; everything else is a ValueError or a TypeError."""


class FileFormatError(ValueError):
    """A file does not hold what it should; the message names the file."""
