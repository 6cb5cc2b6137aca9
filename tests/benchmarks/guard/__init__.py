"""The regression guard: ratios and counts of what a task costs, compared with a committed baseline. No absolute times."""
