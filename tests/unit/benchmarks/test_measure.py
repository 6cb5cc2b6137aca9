from tests.benchmarks.measure import median_interval


def test_the_interval_of_a_median_is_that_of_the_tables() -> None:
    """Order statistics with 95 %: of 6 the 1st and 6th, of 12 the 3rd and 10th, of 20 the 6th and 15th."""
    assert [median_interval([*range(1, n + 1)]) for n in (3, 6, 12, 20)] == [(1, 3), (1, 6), (3, 10), (6, 15)]
