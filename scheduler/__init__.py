"""The scheduler daemon: it fires due schedules."""
