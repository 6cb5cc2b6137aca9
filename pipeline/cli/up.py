"""``pipeline up``: everything on this machine, with one command."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.cli.access import Access
    from pipeline.settings import Settings
    from pipeline.supervisor.services import Services

#: How many ports are tried, beginning with the one that was asked for.
_PORTS = 100
#: What a worker may take beyond the time its tasks have.
_GRACE_SECONDS = 20.0

#: Programs around the worker. They are named and not imported: the core knows no actor and no schedule.
_MAIL_CATCHER = ("-m", "actors.smtp_dev")
_SCHEDULER = ("-m", "scheduler")


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port of the web server. [PIPELINE_HTTP_PORT, 8000]")
def up(port: int | None) -> None:
    """Run everything: database, migrations, mail catcher, workers, scheduler, web.

    The database is the one in DATABASE_URL or else an embedded one; mails are caught as files unless
    PIPELINE_SMTP_HOST is set. If the port is taken the next free one is used. Ctrl-C stops in order: no new requests,
    tasks in flight finish, then the rest.

    It prints a URL to log in with, once, and a token for the API, which it also keeps in the file "token" in
    PIPELINE_DATA_DIR. Where PIPELINE_HTTP_HOST lets others in, it makes none, and there must be one already.
    """
    from pipeline.cli.access import provide_access
    from pipeline.cli.environment import prepare_for_workers
    from pipeline.cli.migrate import apply_all
    from pipeline.supervisor.services import Services

    settings = prepare_for_workers()
    with Services(click.echo, stop_seconds=settings.stop_seconds + _GRACE_SECONDS) as services:
        url = _provide_database(services, settings)
        apply_all(url, settings)
        access = provide_access(url, settings)
        changes = {"database_url": url, **_start_mail_catcher(services, settings)}
        _start_worker(services, settings, changes)
        _start_scheduler(services, changes)
        address = _start_web(services, settings, changes, port or settings.http_port)
        _tell_access(access, address)
        status = services.run()
    click.get_current_context().exit(status)


def _tell(what: str, text: str) -> None:
    click.echo(f"{what:<9} {text}")


def _provide_database(services: Services, settings: Settings) -> str:
    from pipeline.db import embedded
    from pipeline.db.dsn import Dsn

    if settings.database_url is not None:
        url = embedded.database_url(settings)
        _tell("Database", Dsn.parse(url).endpoint)
        return url
    server = embedded.start(settings.data_dir / "postgres", pg_bin=settings.pg_bin)
    services.watch("database", server.poll)
    _tell("Database", f"embedded, in {server.data_dir}")
    return server.url


def _start_mail_catcher(services: Services, settings: Settings) -> dict[str, object]:
    """Catch mail in files unless a server is configured; return the settings of those who send it."""
    from pipeline.settings import environment

    if settings.smtp_host is not None:
        _tell("Mail", f"handed over to {settings.smtp_host}:{settings.smtp_port}")
        return {}
    if find_spec("aiosmtpd") is None:
        _tell("Mail", "not sent: set PIPELINE_SMTP_HOST, or install pipeline-tasks[demo] to catch it in files")
        return {}
    port, directory = _free_port(), settings.data_dir / "mail"
    command = [sys.executable, *_MAIL_CATCHER, "--port", str(port), "--dir", str(directory)]
    services.start("mail catcher", command, environment())
    _tell("Mail", f"caught in {directory}")
    return {"smtp_host": "127.0.0.1", "smtp_port": port}


def _free_port() -> int:
    """Find a port; should somebody take it before the mail catcher does, that one ends and says so."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _start_worker(services: Services, settings: Settings, changes: dict[str, object]) -> None:
    from pipeline.settings import environment

    services.start("worker", [sys.executable, "-m", "pipeline.cli", "worker"], environment(**changes))
    _tell("Worker", f"{settings.processes} processes with {settings.threads} threads each")


def _start_scheduler(services: Services, changes: dict[str, object]) -> None:
    from pipeline.settings import environment

    services.start("scheduler", [sys.executable, *_SCHEDULER], environment(**changes))
    _tell("Scheduler", "1 process")


def _start_web(services: Services, settings: Settings, changes: dict[str, object], wanted: int) -> str:
    """Start the web server on a socket that listens already: its address holds, and requests wait until it is up."""
    from pipeline.cli.web import address_of, server_command
    from pipeline.settings import environment

    with closing(_listen(settings.http_host, wanted)) as listener:
        port, file = listener.getsockname()[1], listener.fileno()
        services.start("web server", server_command(settings, file), environment(**changes), [file])
    taken = "" if port == wanted else f"  (port {wanted} is taken)"
    address = address_of(settings.http_host, port)
    _tell("Web", f"{address}{taken}")
    return address


def _tell_access(access: Access | None, address: str) -> None:
    if access is None:
        _tell("Login", "with a token: pipeline token list")
        return
    _tell("Login", f"{address}/login?code={access.code}  (once, within {access.minutes} minutes)")
    _tell("Token", f"{access.token}  (also in {access.file})")


def _listen(host: str, wanted: int) -> socket.socket:
    """Listen on the first free port from that one on."""
    from pipeline.cli.web import listen

    complaint: OSError | None = None
    for port in range(wanted, min(wanted + _PORTS, 65536)):
        try:
            return listen(host, port)
        except OSError as error:
            complaint = error
    raise click.ClickException(f"Cannot listen on {host}, port {wanted} and the next ones: {complaint}")
