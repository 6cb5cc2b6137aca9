"""The order in which a process runs what it holds."""

from __future__ import annotations

from uuid import uuid4

import dramatiq

from pipeline.broker.consumer import TaskProxy


def claimed(claim_id: int, eta: float, id: int) -> TaskProxy:
    message = dramatiq.Message("q", "a", (), {}, {}, message_id=str(uuid4()))
    return TaskProxy(message, id=id, run=1, attempt=1, lane_id=5, priority=0, eta=eta, claim_id=claim_id)


def test_what_was_claimed_first_comes_first_then_by_eta_then_by_id() -> None:
    in_order = [claimed(1, 50, 9), claimed(1, 60, 1), claimed(1, 60, 2), claimed(2, 10, 3)]

    in_another = [in_order[place] for place in (3, 1, 0, 2)]

    assert sorted(in_another) == in_order
