"""How a caller is refused: as problems (RFC 9457), with the challenges of RFC 6750."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import Forbidden, TooManyRequests, Unauthorized

from api.scopes import Scope


def _challenge(**more: str) -> tuple[str, str]:
    """Say what to show instead. Each value is quoted, as RFC 9110 wants a realm to be."""
    parameters = {"realm": "pipeline", **more}
    return "WWW-Authenticate", "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


class Unauthenticated(Unauthorized):
    """The caller shows neither a token nor a session."""

    kind = "unauthorized"

    def __init__(self, detail: str = "Send a token: Authorization: Bearer tq_…") -> None:
        super().__init__(detail)
        self._challenge = _challenge()

    def get_headers(self, *context: Any) -> list[tuple[str, str]]:
        """Add what to show."""
        return [*super().get_headers(*context), self._challenge]


class TokenRefused(Unauthenticated):
    """What the caller shows is not good, or not any more."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self._challenge = _challenge(error="invalid_token", error_description=detail)


class ScopeMissing(Forbidden):
    """The caller may not do this."""

    kind = "forbidden"

    def __init__(self, needed: Scope, scope: Scope) -> None:
        super().__init__(f"This needs the scope {needed.value}; yours is {scope.value}")
        self.more = {"needed_scope": needed.value, "scope": scope.value}
        self._challenge = _challenge(error="insufficient_scope", scope=needed.value)

    def get_headers(self, *context: Any) -> list[tuple[str, str]]:
        """Add what is needed."""
        return [*super().get_headers(*context), self._challenge]


class CsrfFailed(Forbidden):
    """A request with a cookie does not prove that a page of ours sent it."""

    kind = "csrf-failed"


class TooManyLogins(TooManyRequests):
    """This client has tried to log in too often."""

    kind = "too-many-requests"

    def __init__(self, retry_after: int) -> None:
        super().__init__("Too many logins from your address; wait a moment", retry_after=retry_after)
