"""Connections that nobody uses any more."""

from __future__ import annotations

import pytest

from pipeline.db import pool as pool_module
from pipeline.db.pool import Pool


def test_only_what_nobody_has_used_for_long_is_closed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(pool_module.time, "monotonic", lambda: clock[0])
    pool = Pool(lambda: database_url)
    old, young = pool.getconn(), pool.getconn()
    pool.putconn(old)
    clock[0] += 6
    pool.putconn(young)
    clock[0] += 6
    pool.drop_idle(10)
    monkeypatch.undo()

    assert (old.closed, young.closed) == (1, 0)
    assert pool.getconn() is young
    pool.putconn(young)
    pool.closeall()
