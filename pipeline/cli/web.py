"""``pipeline web``: serve the HTTP API; tell whether it is ready."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.worker import RunUnlessNamed

if TYPE_CHECKING:
    from pipeline.settings import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

#: How long requests that are under way may take once it is to stop. Live views end by themselves, within a second.
STOP_SECONDS = 30
#: gunicorn and the application are named and not imported: the core knows no Flask.
_GUNICORN = (
    *("-m", "gunicorn", "api.wsgi:app", "--worker-class", "api.server.Worker", "--no-control-socket"),
    # The longest that a line can be: filters are texts.
    *("--log-level", "warning", "--limit-request-line", "8190"),
    # Proxies are believed by PIPELINE_HTTP_PROXIES alone, see api/security.py.
    *("--forwarded-allow-ips", ""),
    *("--graceful-timeout", str(STOP_SECONDS)),
)
#: Connections that wait to be accepted.
_BACKLOG = 1024
#: Where this machine reaches what listens everywhere.
_NEAR = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - just compared
#: How long the check waits; that the database is away is told within three seconds.
_CHECK_SECONDS = 5.0

web = RunUnlessNamed(
    "web",
    help="""Serve the HTTP API by gunicorn, which takes the place of this process.

    SIGTERM: no new requests, live views end within a second, what else is under way has half a minute. Ctrl-C ends at
    once. SIGHUP replaces the processes by some that have loaded the code anew. While the database is away or its schema
    is older, it answers that.

    Where others can reach it, there must be a token first: pipeline token create.
    """,
)


def _address_options(command: Command) -> Command:
    host = click.option("--host", help="Where it listens. [PIPELINE_HTTP_HOST, 127.0.0.1]")
    port = click.option("--port", type=click.IntRange(1, 65535), help="The port. [PIPELINE_HTTP_PORT, 8000]")
    return host(port(command))


@web.command()
@_address_options
@click.option("--processes", type=click.IntRange(min=1), help="Processes that serve. [PIPELINE_HTTP_PROCESSES, 1]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads in each of them. [PIPELINE_HTTP_THREADS, 16]")
def run(host: str | None, port: int | None, processes: int | None, threads: int | None) -> None:
    """Serve the HTTP API; the word can be left out."""
    from pipeline.logger import get_logger
    from pipeline.settings import environment

    changes = _given(http_host=host, http_port=port, http_processes=processes, http_threads=threads)
    settings = _settings(changes)
    url = _database_url(settings)
    _refuse_without_token(settings, url)
    listener = _listen(settings)
    listener.set_inheritable(True)
    get_logger(__name__).info("web.started", host=settings.http_host, port=settings.http_port, **_size(settings))
    # Whoever started us signals gunicorn itself, and sees its end: nobody stands between who could get that wrong.
    command = server_command(settings, listener.fileno())
    os.execve(command[0], command, environment(database_url=url, **changes))  # noqa: S606 - it needs no shell


@web.command()
@_address_options
def check(host: str | None, port: int | None) -> None:
    """Tell whether the web server of this machine (or container) is ready: the question of an orchestrator.

    Exit status 0 if it says so itself (GET /readyz): its database answers, and the schema is not older than the code.
    """
    from http.client import HTTPException

    from pipeline.cli.failure import Failure

    settings = _settings(_given(http_host=host, http_port=port))
    address = address_of(settings.http_host, settings.http_port)
    try:
        problem = _problem(settings)
    except (OSError, HTTPException) as error:
        raise Failure(f"No web server answers at {address}: {error}") from None
    if problem:
        raise Failure(f"The web server at {address} is not ready: {problem}")
    click.echo(f"The web server at {address} is ready.")


def server_command(settings: Settings, file: int) -> list[str]:
    """Give the command line of gunicorn that serves the API on a socket that listens already, inherited as ``file``."""
    size = ["--workers", str(settings.http_processes), "--threads", str(settings.http_threads)]
    return [sys.executable, *_GUNICORN, *size, "--bind", f"fd://{file}"]


def listen(host: str, port: int) -> socket.socket:
    """Listen there; requests wait until somebody serves them.

    Raises:
        OSError: It is taken, or is no address of ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def address_of(host: str, port: int) -> str:
    """Give the address at which this machine reaches the web server."""
    near = _NEAR.get(host, host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _settings(changes: dict[str, object]) -> Settings:
    from pipeline.cli.environment import prepare

    return prepare().model_copy(update=changes)


def _size(settings: Settings) -> dict[str, int]:
    return {"processes": settings.http_processes, "threads": settings.http_threads}


def _database_url(settings: Settings) -> str:
    """Give the address of the database. One that was given need not answer now: the API outlives its database."""
    from pipeline.db import embedded

    return settings.database_url or embedded.running_url(settings)


def _refuse_without_token(settings: Settings, url: str) -> None:
    """Return if the API may be served where it is to listen.

    Each process of gunicorn looks again (``api.bind``), but can only end with a traceback and a status of gunicorn's.
    While the database is away nobody knows, and nobody gets in either; the processes say so in the log.

    Raises:
        ConfigurationError: Others can reach it, and there is no token.
    """
    from pipeline.commands.tokens import check_served
    from pipeline.errors import DatabaseUnavailable, SchemaOutdated
    from pipeline.runtime import ask, use_database

    if settings.is_local:
        return
    use_database(url)
    with suppress(DatabaseUnavailable, SchemaOutdated):
        ask(check_served, f"{settings.http_host}, port {settings.http_port}")


def _listen(settings: Settings) -> socket.socket:
    host, port = settings.http_host, settings.http_port
    try:
        return listen(host, port)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        reason = "it is taken; choose another by --port or PIPELINE_HTTP_PORT" if is_taken else error.strerror
        raise click.ClickException(f"Cannot listen on {host}, port {port}: {reason}") from None


def _problem(settings: Settings) -> str:
    """Ask the web server whether it is ready; return what it says if it is not.

    Raises:
        OSError, HTTPException: It does not answer, or not in HTTP.
    """
    from http.client import HTTPConnection

    host = settings.http_host
    connection = HTTPConnection(_NEAR.get(host, host), settings.http_port, timeout=_CHECK_SECONDS)
    with closing(connection):
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return "" if answer.status == 200 else _detail(answer.read(65_536)) or f"it answers with {answer.status}"


def _detail(body: bytes) -> str:
    """Find what a problem says; nothing if it is none of ours."""
    import json

    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(body)["detail"])
    return ""
