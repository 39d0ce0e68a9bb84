"""The exceptions that are ours; everything else is a ValueError or a TypeError."""


class GpuError(RuntimeError):
    """There is no GPU that a back end can use: no driver, none at all, or too old a one."""


class FileFormatError(ValueError):
    """A file does not hold what it should; the message names the file."""
