"""Measurements: ``./dev bench``. Rates are compared as ratios within one run; nothing asserts absolute ones."""
