import pytest

from tests.benchmarks.peers.catalog import GOALS, LIMITS, METRIC, PEER, PEERS, VISITS, Goal, Limit
from tests.benchmarks.peers.figures import Results, Spread, drain_rate, quantile
from tests.benchmarks.peers.report import limits_of


def test_a_drain_is_timed_from_the_moment_when_all_processes_are_warm() -> None:
    """The first process works alone for a second; only what comes after the second is warm counts, of both."""
    first = [number / 100 for number in range(300)]  # 0.00 to 2.99
    second = [1 + number / 100 for number in range(200)]  # 1.00 to 2.99, warm at 1.49

    assert drain_rate([first, second]) == pytest.approx(2 * 150 / (2.99 - 1.49))


def test_a_process_that_hardly_got_a_task_is_not_waited_for() -> None:
    first = [number / 100 for number in range(300)]

    assert drain_rate([first, [2.5]]) == pytest.approx(251 / (2.99 - 0.49))


def test_a_drain_that_was_over_before_all_were_warm_is_no_figure() -> None:
    with pytest.raises(ValueError, match="prepare more"):
        drain_rate([[number / 100 for number in range(60)], [number / 100 for number in range(60)]])


def test_ratios_are_of_the_same_round() -> None:
    """The machine was twice as fast in the second round; the ratio is two in both."""
    results = Results()
    for number, (ours, theirs) in enumerate([(200, 100), (400, 200)], 1):
        results.add("drain", "ours", number, ours)
        results.add("drain", "pgqueuer", number, theirs)
    results.add("drain", "pgqueuer", 3, 1)  # we failed in the third

    assert results.ratio("drain", "ours", "pgqueuer") == Spread(2, 2, 2)
    assert results.spread("drain", "pgqueuer") == Spread(100, 1, 200)
    assert results.ratio("drain", "ours", "nobody") is None
    assert results.spread("bulk", "ours") is None


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5), (0.99, 10), (0.999, 10), (0.1, 1)])
def test_quantiles_are_values_that_occurred(share: float, expected: float) -> None:
    assert quantile([*range(10, 0, -1)], share) == expected


def test_goals_are_bounds_from_the_right_side() -> None:
    assert [Goal("drain", "ours", "x", 2).is_met_by(ratio) for ratio in (1.9, 2, 3)] == [False, True, True]
    assert [Goal("p50", "ours", "x", 1, at_least=False).is_met_by(ratio) for ratio in (0.9, 1, 1.1)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(("milliseconds", "reached"), [(14.9, "yes"), (15, "no")])
def test_the_time_that_polling_takes_is_bounded_by_itself(milliseconds: float, reached: str) -> None:
    results = Results()
    results.add("p50", "ours-pgbouncer", 1, milliseconds)

    (row,) = limits_of(results)
    assert row[-1] == reached
    assert Limit("p50", "ours-pgbouncer", 15) in LIMITS


def test_the_catalog_fits_together() -> None:
    """Each goal compares systems that are measured in its metric; each metric belongs to one visit."""
    visit_of = {metric: visit for visit, metrics in VISITS.items() for metric in metrics}

    assert visit_of.keys() == METRIC.keys()
    assert len(PEER) == len(PEERS)
    assert {visit for peer in PEERS for visit in peer.visits} == VISITS.keys()
    for goal in GOALS:
        assert visit_of[goal.metric] in PEER[goal.ours].visits
        assert visit_of[goal.metric] in PEER[goal.other].visits
    for limit in LIMITS:
        assert visit_of[limit.metric] in PEER[limit.ours].visits
