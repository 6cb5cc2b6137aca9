"""Who is logged in."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from api.scopes import Scope
from api.shapes.commands import Body


class Session(BaseModel):
    """Who the caller is, and what that lets do."""

    name: str = Field(description="The token's, which the audit trail tells.")
    scope: Scope
    scopes: list[Scope] = Field(description="All that the scope holds.")
    ends_at: datetime | None = Field(description="When the token, or the session, is over; null: never.")
    csrf_token: str | None = Field(
        description="Sent along as `X-CSRF-Token` with whatever changes something; null for who shows a token."
    )


class Credentials(Body):
    """What a browser logs in with."""

    token: str
