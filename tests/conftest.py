"""Lists the modules with fixtures, by theme; nothing else."""

pytest_plugins = ["tests.fixtures.leaks", "tests.fixtures.database", "tests.fixtures.broker"]
