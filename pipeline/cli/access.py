"""How whoever runs ``pipeline up`` gets into its API: a token in a file, and a URL to log in with."""

from __future__ import annotations

import os
import re
import secrets
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.tokens import check_served, create_token, hash_of, is_secret, new_secret
from pipeline.db.connection import connect
from pipeline.db.statements import load
from pipeline.store import tokens
from pipeline.store.audit import By

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor  # noqa: N812

    from pipeline.settings import Settings

_LOGIN = timedelta(minutes=10)
_LIFETIME = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Access:
    """What is printed."""

    token: str = field(repr=False)
    #: Where the token is, too, for whoever has the rights of the one that ran ``pipeline up``.
    file: Path
    #: Begins one session.
    code: str = field(repr=False)
    minutes: int = int(_LOGIN.total_seconds() // 60)


def provide_access(url: str, settings: Settings) -> Access | None:
    """Make an operator's token and a login code; None where others can reach the API, which need tokens of their own.

    Raises:
        ConfigurationError: Others can reach it, and there is no token.
    """
    statements = load(settings.schema_name)
    with closing(connect(url, application_name="pipeline up")) as connection, connection, connection.cursor() as cursor:
        if not settings.is_local:
            check_served(statements, cursor, f"{settings.http_host} (PIPELINE_HTTP_HOST)")
            return None
        file = settings.data_dir / "token"
        token = _kept_token(statements, cursor, file) or _new_token(statements, cursor, file)
        code = secrets.token_urlsafe(32)
        lifetime_ms = round(_LOGIN.total_seconds() * 1000)
        tokens.create_login(statements, cursor, token=hash_of(token), code=hash_of(code), lifetime_ms=lifetime_ms)
    return Access(token, file, code)


def _kept_token(sql: Mapping[str, str], cursor: Cursor, file: Path) -> str | None:
    """Take the token of the last time, if it is good for this database: who has it in a shell need not copy it anew."""
    with suppress(OSError, UnicodeDecodeError):
        token = file.read_text(encoding="ascii").strip()
        found = tokens.use(sql, cursor, hash_of(token)) if is_secret(token) else None
        if found is not None and found.state == "live":
            return token
    return None


def _new_token(sql: Mapping[str, str], cursor: Cursor, file: Path) -> str:
    token = new_secret()
    # Several of them may run on one database, on one machine, too.
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()[:40])
    name = f"up@{host}-{secrets.token_hex(3)}"
    create_token(sql, cursor, name, secret=token, scope="operate", lifetime=_LIFETIME, by=By("pipeline up"))
    _write_secretly(file, token)
    return token


def _write_secretly(file: Path, text: str) -> None:
    """Write a file that is nobody else's from its first moment on."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)  # it may have been made with other rights, or be a link
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as opened:
        opened.write(f"{text}\n")
