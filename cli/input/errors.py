"""Errors of standard input. `str()` is a sentence for people."""


class UnreadableLine(Exception):
    """A line is no row: its encoding, its quotes, or what separates its values. Others may be."""


class UnreadableInput(Exception):
    """No line can be read: the header or the separator of the values is unclear."""
