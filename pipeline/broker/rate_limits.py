"""Rate limits."""


class PostgresRateLimiterBackend: ...
