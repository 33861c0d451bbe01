"""Errors of files of rows. `str()` is a sentence for people."""


class UnknownFormat(Exception):
    """The name of a file does not tell its format."""


class InputUnusable(Exception):
    """The file of rows cannot be read."""


class OutputUnusable(Exception):
    """The output cannot be written, or what is there cannot be completed."""


class OtherModel(Exception):
    """A worker or service answered with another model than this command's."""


class NoAnswer(Exception):
    """No worker answered in time."""
