"""Race 4 and the pinned xmin: dead rows slow a claim down; the floor over them hides no live one for long."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from types import SimpleNamespace

import dramatiq
import pytest

from pipeline import PostgresBroker
from pipeline.broker import floors as floors_module
from pipeline.broker.floors import Floors
from tests.fixtures.broker import working
from tests.fixtures.wait import eventually
from tests.integration.races.conftest import Scale
from tests.integration.races.sessions import Session

pytestmark = pytest.mark.leaves("claim", "worker")

Sessions = Callable[..., Session]
Row = tuple[object, ...]

SLOW, QUITE_SLOW, QUICK = 50.0, 6.0, 0.5


def row(lane: int, eta: float) -> Row:
    """A claimed row, as far as the floors read it."""
    return (1, 1, 1, 1, lane, eta)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(floors_module, "time", clock)
    return clock


def slow_floors(scan_ms: float = QUITE_SLOW) -> Floors:
    floors = Floors()
    floors.arguments()
    floors.learn(scan_ms, [row(1, 500.0)], 1, [1, 2])
    return floors


def test_a_quick_exchange_sets_no_floor(clock: SimpleNamespace) -> None:
    """R the floor is used only when finding rows took more than 5 ms, however many rows there were."""
    floors = Floors()
    for scan_ms, count in [(QUICK, 1), (4.9, 0), (20.0, 1000)]:
        floors.arguments()
        floors.learn(scan_ms, [row(1, 500.0)] * count, 1000, [1])
        assert floors.arguments() == (None, None)


def test_a_slow_one_sets_a_floor_and_a_quick_full_scan_lifts_it(clock: SimpleNamespace) -> None:
    """R while a floor is used, only a full scan can tell that the dead rows are gone."""
    floors = slow_floors()
    assert floors.arguments() == ("{1}", "{500.0}")
    floors.learn(QUICK, [], 1, [1, 2])
    assert floors.arguments()[0] == "{1,2}"

    clock.now += 1.0
    assert floors.arguments() == (None, None)
    floors.learn(QUICK, [], 1, [1, 2])
    assert floors.arguments() == (None, None)


@pytest.mark.parametrize(
    ("scan_ms", "seconds"),
    [(6.0, 1.0), (10.0, 1.0), (200.0, 10.0), (60_000.0, 10.0)],
)
def test_everything_is_scanned_within_a_second_or_ten_if_it_takes_long(
    clock: SimpleNamespace, scan_ms: float, seconds: float
) -> None:
    """R a row below the floor waits no longer than that."""
    floors, last = slow_floors(scan_ms), clock.now
    for _ in range(300):
        clock.now += 0.07
        is_full = floors.arguments() == (None, None)
        assert is_full or clock.now - last < seconds
        last = clock.now if is_full else last
        floors.learn(scan_ms, [row(1, 500.0)], 1, [1])


def test_full_scans_take_a_hundredth_of_the_time_at_most(clock: SimpleNamespace) -> None:
    """A million dead rows take 0.1 s: once a second that would be a tenth of all work, and the p99 of all exchanges."""
    floors, full_scans = slow_floors(80.0), 0
    for _ in range(2000):
        clock.now += 0.02
        full_scans += floors.arguments() == (None, None)
        floors.learn(80.0, [row(1, 500.0)], 1, [1])

    assert full_scans == 1 + 4  # in 40 s; the first one alone might have met a stall of the machine


def test_a_stall_of_the_machine_does_not_put_off_the_next_full_scan(clock: SimpleNamespace) -> None:
    floors = slow_floors(5_000.0)

    clock.now += 1.0

    assert floors.arguments() == (None, None)


def test_the_floor_follows_a_backlog_that_never_ends(clock: SimpleNamespace) -> None:
    """With the first floor kept for ever, the rows that died since would be waded through again and again."""
    floors = slow_floors()
    for eta in (600.0, 700.0):
        floors.arguments()
        floors.learn(SLOW, [row(1, eta + 1), row(1, eta)], 2, [1])

    assert floors.arguments() == ("{1}", "{700.0}")


def test_an_exchange_that_claims_nothing_does_not_pass_for_a_full_scan(broker: PostgresBroker, db: Session) -> None:
    """R outcomes that are written while all threads are busy scan nothing, so the full scan is still due."""
    begun, release, asked = Event(), Event(), []

    @dramatiq.actor
    def busy() -> None:
        begun.set()
        assert release.wait(10)

    busy.send()
    with working(broker, threads=1):
        assert begun.wait(5)
        hub = broker.hub
        recorder = SimpleNamespace(arguments=lambda: asked.append(1), learn=lambda *_: None, lower=lambda _: None)
        real, hub._floors = hub._floors, recorder  # type: ignore[assignment]
        hub._claims.done.append(12345)
        hub.wake()
        eventually(lambda: not hub._claims.done)
        hub._floors = real
        release.set()
        broker.join("default", timeout=5_000)

    assert asked == []


def test_a_floor_never_stands_later_than_two_seconds_ago(db: Session) -> None:
    """R whatever a worker passes, what became due in the last two seconds is seen: the clock of the worker is no part
    of it."""
    worker, lane = db.register(), db.lane()
    task = db.enqueue(d=-1900)
    old = db.enqueue(d=-60_000)

    for floor in (float("inf"), time.time() + 86_400):
        assert [run.message_id for run in db.claim(worker, 1, floors={lane: floor})] == [task]
        db.resume(worker)
        db.ask("UPDATE pipeline.worker SET session = 1")
        db.ask(
            "UPDATE pipeline.ready SET eta = clock_timestamp() - interval '1.9 s' WHERE eta > now() - interval '30 s'"
        )
    assert db.claim(worker, 1, floors={lane: 0.0})[0].message_id == old


def test_the_floor_of_one_lane_does_not_hide_another(db: Session) -> None:
    """A lane that is not named is scanned from its beginning."""
    worker, lane, other = db.register(), db.lane(), db.lane("other")
    hidden = db.enqueue(d=-60_000)
    seen = db.enqueue(q="other", d=-60_000)

    queues = ["default", "other"]
    assert [run.message_id for run in db.claim(worker, 5, queues=queues, floors={lane: time.time()})] == [seen]
    assert [run.message_id for run in db.claim(worker, 5, queues=queues, floors={other: time.time()})] == [hidden]


@pytest.mark.parametrize("clock_ahead", [0.0, 3600.0, -3600.0])
def test_under_a_pinned_snapshot_a_late_commit_with_an_early_eta_starts_within_about_a_second(
    broker: PostgresBroker, db: Session, session: Sessions, monkeypatch: pytest.MonkeyPatch, clock_ahead: float
) -> None:
    """Race 4: thousands of dead rows that cannot be removed, and a floor above them. A sender that was slow to commit
    comes in below it. The worker's own clock is an hour off in either direction, which must not matter."""
    monkeypatch.setattr(floors_module, "_SLOW_MS", -1.0)  # any exchange counts as slow: this machine may be fast
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + clock_ahead)
    pin, slow = session(open_transaction=True), session(open_transaction=True)
    pin.ask("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    pin.waiting()
    db.ask(
        "INSERT INTO pipeline.ready (id, eta, lane_id, run)"
        " SELECT n, clock_timestamp() - interval '1 min', %s, 1 FROM generate_series(1, 20000) n",
        db.lane(),
    )
    db.ask("DELETE FROM pipeline.ready")

    @dramatiq.actor
    def noop() -> None:
        pass

    late = slow.enqueue(d=-50_000)
    with working(broker):
        quick = noop.send()
        eventually(lambda: db.outcomes(quick.message_id) == ["s"])
        eventually(lambda: broker.hub._floors._floors)
        slow.commit()
        eventually(lambda: db.outcomes(late) == ["s"], within=2)
    assert pin.waiting() == 0


def test_a_worker_finds_at_once_what_it_gave_back(
    broker: PostgresBroker, db: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such tasks come back to their old place, below the worker's own floor, where only the next full scan would look."""
    monkeypatch.setattr(floors_module, "_SLOW_MS", -1.0)  # any exchange counts as slow: this machine may be fast
    for each in ("_FULL_SCAN_SECONDS", "_RAREST_FULL_SCAN_SECONDS"):
        monkeypatch.setattr(floors_module, each, 3600.0)
    release = Event()

    @dramatiq.actor
    def wait() -> None:
        assert release.wait(10)

    wait.send()
    with working(broker, threads=1):
        hub = broker.hub
        eventually(lambda: hub.running())
        early = [db.enqueue(a="wait", d=-60_000) for _ in range(3)]
        hub._pace._mean_seconds = 0.0
        hub._pace._prefetch = 3
        hub._floors = Floors()
        hub._floors._full_scan_at = float("-inf")
        hub.wake()
        eventually(lambda: db.outcomes() == ["i"] * 3)  # nothing ended meanwhile, so they went back
        release.set()
        eventually(lambda: all(db.outcomes(each) == ["i", "s"] for each in early), within=3)


@pytest.mark.stress
@pytest.mark.timeout(900)
def test_stress_commits_in_any_order_under_a_pinned_snapshot_all_run_in_time(
    broker: PostgresBroker, db: Session, session: Sessions, monkeypatch: pytest.MonkeyPatch, scale: Scale
) -> None:
    """Race 4 at random: many senders with etas up to a minute ago commit in any order."""
    monkeypatch.setattr(floors_module, "_SLOW_MS", -1.0)
    pin = session(open_transaction=True)
    pin.ask("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    pin.waiting()

    @dramatiq.actor
    def noop() -> None:
        pass

    senders = [session(open_transaction=True) for _ in range(6)]
    with working(broker):
        for _ in range(3 * scale.factor):
            sent = [each.enqueue(d=-scale.dice.randint(0, 60_000)) for each in senders]
            scale.dice.shuffle(senders)
            for each in senders:
                each.commit()
            eventually(lambda sent=sent: all(db.outcomes(each) == ["s"] for each in sent), within=3)
