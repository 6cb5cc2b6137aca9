"""Peers beside us in one run: ``./dev bench peers``. How to read it: docs/reference/benchmarks.md."""
