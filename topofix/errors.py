"""What topofix raises when it is asked for something that cannot be done.

Every message is one sentence that names the file, row or value, says what was expected and what came.
A case that merely did not reach its topology is no error: that is an `Outcome` in `topofix.records`.
"""


class TopofixError(Exception):
    """Base of everything topofix raises on purpose; the command line prints its text and exits."""


class InvalidPrior(TopofixError, ValueError):
    """A prior that cannot be read, contradicts itself or does not fit the image or the labels."""


class InvalidOption(TopofixError, ValueError):
    """An option that the case or the machine cannot honour."""


class InvalidArray(TopofixError, ValueError):
    """An array of the wrong rank, type or range, or with voxels that are not finite."""


class UnreadableFile(TopofixError):
    """A file that is missing, truncated, of an unknown format, or not what its name promises."""


class UnwritableFile(TopofixError):
    """An output that exists already, or a folder that cannot be written to."""


class InvalidCheckpoint(TopofixError):
    """A model file that is damaged, incomplete, or does not fit the image."""
