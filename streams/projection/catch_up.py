"""Whether a projection has caught up with the log."""

from collections.abc import Hashable, Mapping


class CatchUp:
    """Counts the records that were in the log at the start and are not stored yet."""

    def __init__(self) -> None:
        self._ends: dict[Hashable, int] = {}
        self._done = False

    def left(self, positions: Mapping[Hashable, tuple[int | None, int | None]]) -> int | None:
        """How many are left, and None as long as that is not known; once it was 0, always 0.

        `positions`: of each partition, the next offset to store and the log's end, if known. The
        ends that come first are those at the start, unless the log is replaced by a shorter one.
        """
        if self._done:
            return 0
        known = [
            (following, min(end, self._ends.setdefault(partition, end)))
            for partition, (following, end) in positions.items()
            if following is not None and end is not None
        ]
        if not positions or len(known) < len(positions):
            return None
        left = sum(max(0, end - following) for following, end in known)
        self._done = left == 0
        return left
