"""Which process ends when the machine's memory is short."""

from contextlib import suppress
from pathlib import Path


def end_first(score: int) -> None:
    """Let Linux end this process before those with a lower score, which is 0 by default.

    A restarted worker rereads its tasks; the embedded broker would lose its log.
    """
    with suppress(OSError):  # not Linux, or a lower score than it has already
        Path("/proc/self/oom_score_adj").write_text(str(score))
