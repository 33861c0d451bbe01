"""Where a process finds modules of the user's own, such as the classes of a model."""

import os
import sys
from contextlib import suppress


def allow_current_folder() -> None:
    """Let modules of the current folder be imported, unless others of their name are installed.

    The folder comes last: its `model.py` or `api/` is never taken for ours.
    """
    with suppress(FileNotFoundError):  # the folder was removed
        if (folder := os.getcwd()) not in sys.path:
            sys.path.append(folder)
