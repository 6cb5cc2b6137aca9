"""Which claims a worker has open, and when their rows may go."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pipeline.broker.consumer import TaskProxy
    from pipeline.broker.outcome import Conclusion


class Claims:
    """Counts the runs of each claim that are not concluded yet.

    A claim's row goes in the transaction that writes the last of its outcomes. Not a moment earlier, or a crash between
    two batches would lose tasks that are in neither table.
    """

    def __init__(self) -> None:
        self._open: dict[int, int] = {}
        #: Claims whose last run was concluded by its own transaction.
        self.done: list[int] = []

    def known(self) -> list[int]:
        """List the claims whose rows are there for all we know."""
        return [*self._open, *self.done]

    def open(self, claim_ids: Iterable[int]) -> None:
        """Count a claimed run each."""
        for claim_id in claim_ids:
            self._open[claim_id] = self._open.get(claim_id, 0) + 1

    def settle(self, proxy: TaskProxy) -> None:
        """Count off a run that was concluded by its own transaction."""
        self.done += self._close([proxy])

    def ending_with(self, batch: Sequence[Conclusion]) -> list[int]:
        """List the claims whose rows may go with this batch of outcomes."""
        concluded_here = Counter(conclusion.proxy.claim_id for conclusion in batch)
        return self.done + [claim_id for claim_id, count in concluded_here.items() if self._open[claim_id] == count]

    def ended(self, batch: Iterable[Conclusion]) -> None:
        """Count off the runs of a batch that was written."""
        self.done.clear()
        self._close(conclusion.proxy for conclusion in batch)

    def clear(self) -> None:
        """Forget all: they belong to others now."""
        self._open.clear()
        self.done.clear()

    def _close(self, proxies: Iterable[TaskProxy]) -> list[int]:
        """Count concluded runs off their claims; return the claims that have none left."""
        ended = []
        for proxy in proxies:
            self._open[proxy.claim_id] -= 1
            if self._open[proxy.claim_id] == 0:
                del self._open[proxy.claim_id]
                ended.append(proxy.claim_id)
        return ended
