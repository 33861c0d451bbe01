"""The part of Faust that resumes the partitions after a rebalance, without its deadline.

Stock faust-streaming 0.15.3 waits `broker_request_timeout` for the committed offsets. It takes the
end of that time for a stop of the process, and resumes nothing at this and at every later
rebalance, while the member stays in its group: its partitions are read by nobody.
"""

from typing import Any

from faust import tables
from faust.tables import recovery
from typing_extensions import override


class Recovery(recovery.Recovery):  # type: ignore[misc]
    """Waits for the offsets until they come, the group rebalances again, or the process ends."""

    @override
    async def _wait(self, coro: Any, timeout: Any = None) -> None:
        await super()._wait(coro)


class TableManager(tables.TableManager):  # type: ignore[misc]
    """Faust's manager, with the `Recovery` of this module."""

    _recovery: Recovery | None

    @property
    @override
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
