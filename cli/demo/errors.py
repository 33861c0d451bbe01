"""What ends the demo."""


class CheckFailed(Exception):
    """An answer of the demo is wrong or late."""


class ProcessFailed(Exception):
    """A process of the demo failed, or did not start in time."""
