"""What every answer tells a browser not to do."""

from __future__ import annotations

from flask import Response, request

#: Our pages load their own files and nothing else, run no inline code, and stand in nobody's frame.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_YEAR_SECONDS = 31_536_000


def add(response: Response) -> Response:
    """Add what a view has not said itself. What is not a file is stored nowhere: it belongs to one caller."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", f"max-age={_YEAR_SECONDS}")
    return response
