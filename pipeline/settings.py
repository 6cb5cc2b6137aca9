"""All configuration, and the only place that reads the environment.

A field ``lease_seconds`` is set by ``PIPELINE_LEASE_SECONDS``. An empty variable counts as absent, since compose files
pass unset ones on as empty strings.
"""

import ipaddress
import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import ConfigurationError

_URL_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg2://")


def _check_url(url: str | None) -> str | None:
    """Refuse what is certainly not an address of PostgreSQL, without repeating it: it may hold a password."""
    if url is not None and not url.startswith(_URL_SCHEMES):
        message = "must be a URL that starts with postgresql://"
        raise ValueError(message)
    return url


DatabaseUrl = Annotated[str, AfterValidator(_check_url)]
Identifier = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_]{0,62}$")]
Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Everything an operator can turn; the comment at a field is its documentation."""

    model_config = SettingsConfigDict(
        env_prefix="PIPELINE_",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    #: The database. Absent: an embedded server in ``data_dir``. Given: that one, and none is ever started.
    database_url: DatabaseUrl | None = Field(
        default=None, repr=False, validation_alias=AliasChoices("PIPELINE_DATABASE_URL", "DATABASE_URL")
    )
    #: A direct way to the same database where ``database_url`` leads through a pooler, which cannot LISTEN.
    listen_database_url: DatabaseUrl | None = Field(default=None, repr=False)
    #: Where our tables, functions and views live.
    schema_name: Identifier = Field(default="pipeline", validation_alias=AliasChoices("PIPELINE_SCHEMA"))
    #: Where dramatiq-pg keeps its table, which we adopt tasks from.
    inbox_schema: Identifier = "dramatiq"
    #: What dramatiq-pg was told to put in front of its table's name.
    inbox_prefix: str = Field(default="", pattern=r"^[a-z0-9_]{0,40}$")

    #: Where the embedded server and the files of ``pipeline up`` live.
    data_dir: Path = Path("var")
    #: A directory with PostgreSQL's binaries for the embedded server, instead of the ones found.
    pg_bin: Path | None = None
    #: How long to wait for the database to answer before saying that it does not.
    connect_timeout_seconds: int = Field(default=5, ge=1, le=60)

    #: How long a silent worker process may keep its claims.
    lease_seconds: float = Field(default=30.0, gt=0)
    #: How often a worker process says that it lives.
    beat_seconds: float = Field(default=5.0, gt=0)
    #: How often a task may lose its worker process before it fails as poison.
    max_losses: int = Field(default=3, ge=1)
    #: How long finished tasks, their attempts and results are kept. Whole weeks are dropped; unfinished tasks stay.
    retention_days: int = Field(default=30, ge=1)
    #: The longest pause between two looks of a worker process into an empty queue. Each other free process makes it a
    #: fifth longer.
    poll_max_ms: int = Field(default=300, ge=1, le=60_000)
    #: The longest it becomes so, however many there are.
    fleet_poll_max_ms: int = Field(default=2500, ge=1, le=60_000)
    #: The share of a worker's claims in which another lane than the most urgent one comes first. 0: strict order.
    anti_starvation_share: float = Field(default=0.0, ge=0, le=0.5)
    #: Whether workers also LISTEN, so that an idle system answers at once.
    listen: bool = True
    #: Worker processes of ``pipeline worker``.
    processes: int = Field(default=2, ge=1)
    #: Threads in each of them.
    threads: int = Field(default=8, ge=1)
    #: A worker process is replaced after so many tasks; 0: never.
    max_tasks_per_child: int = Field(default=0, ge=0)
    #: A worker process is replaced once it holds more resident memory than so many MiB; 0: never.
    max_memory_mb: int = Field(default=0, ge=0)
    #: A run that takes longer has its process killed, where its actor or its message says nothing else. 0: never.
    hard_time_limit_seconds: float = Field(default=3600.0, ge=0)
    #: How long tasks in flight may go on after a worker was asked to stop. Those that do not end in time run again
    #: elsewhere.
    stop_seconds: float = Field(default=60.0, ge=0)
    #: After how much of that time Shutdown is raised in the tasks that still run, so that they can clean up. Absent:
    #: 10 s before its end, or after half of it if that is later.
    shutdown_notice_seconds: float | None = Field(default=None, ge=0)
    #: Run tasks where they are sent, at once and without a worker: for development and tests.
    eager: bool = False
    #: Raise the error of a task that failed so at its sender; false: log it.
    eager_propagates: bool = True
    #: The largest message that is accepted, in bytes of its JSON.
    message_limit_bytes: int = Field(default=1_048_576, ge=1024)

    #: The modules that declare schedules, with commas between them. With them come the actors that they import.
    schedules: str = Field(default="scheduler.schedules", pattern=r"^\s*[A-Za-z_][\w.]*(\s*,\s*[A-Za-z_][\w.]*)*\s*$")

    #: Where the web server listens. Anywhere but on this machine itself it needs a token to begin with.
    http_host: str = "127.0.0.1"
    http_port: Port = 8000
    #: Processes of the web server. One keeps one core busy, whatever its threads; each has threads and streams of its
    #: own.
    http_processes: int = Field(default=1, ge=1)
    #: Requests that each of them serves at the same time.
    http_threads: int = Field(default=16, ge=1)
    #: How many clients may watch at the same time through one process: server-sent events and ``?wait=``. Each of them
    #: holds one of its threads. Absent: half of them. 0: none.
    http_streams: int | None = Field(default=None, ge=0)
    #: How many connections to the database answer requests, in one web process. Each is needed for milliseconds, so a
    #: request that finds none free waits for one: opening a hundred at once would take longer.
    http_connections: int = Field(default=16, ge=1)
    #: How long a statement may take that answers a request. The client is told when it is too long.
    http_statement_seconds: float = Field(default=2.0, gt=0, le=60)
    #: How many proxies stand before the web server, whose X-Forwarded-For and X-Forwarded-Proto are believed.
    http_proxies: int = Field(default=0, ge=0, le=10)
    #: Origins whose pages may use the API with a token, separated by commas: https://erp.example.
    cors_origins: str = Field(default="", pattern=r"^(https?://[^\s,/*]+(\s*,\s*https?://[^\s,/*]+)*)?$")
    #: What the web servers sign with. Absent: a key that is made once and kept in the database.
    secret_key: str | None = Field(default=None, min_length=32, repr=False)
    #: Whether the scope "read" shows what is in tasks: arguments, results, error texts, notes and log lines.
    read_shows_payloads: bool = False
    #: Names of arguments and of fields of results whose values the API shows to nobody, separated by commas.
    masked_fields: str = "password,secret,token,api_key"
    #: The largest file that is accepted.
    upload_limit_bytes: int = Field(default=104_857_600, ge=1)
    #: Where mail is handed over. Absent: ``pipeline up`` catches it in files.
    smtp_host: str | None = None
    smtp_port: Port = 25
    #: The sender of mail.
    mail_from: str = "erp@example.com"

    #: Lines for people, or one JSON object per line.
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    #: From which level on lines that a task logs are kept with its run, whatever ``log_level`` says. OFF: none are.
    task_log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "OFF"] = "INFO"
    #: How much is kept of one run, in bytes of text. A quarter of it is only for warnings and errors.
    task_log_limit_bytes: int = Field(default=65_536, ge=1024)

    @property
    def schedule_modules(self) -> tuple[str, ...]:
        """The names in ``schedules``."""
        return tuple(name.strip() for name in self.schedules.split(","))

    @property
    def most_streams(self) -> int:
        """How many clients may watch at the same time through one web process."""
        return self.http_threads // 2 if self.http_streams is None else self.http_streams

    @property
    def notice_seconds(self) -> float:
        """Seconds from the request to stop to Shutdown in the tasks that still run."""
        if self.shutdown_notice_seconds is not None:
            return self.shutdown_notice_seconds
        return max(self.stop_seconds - 10, self.stop_seconds / 2)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the web server."""
        return is_loopback(self.http_host)

    @field_validator("log_level", "task_log_level", mode="before")
    @classmethod
    def _accept_small_letters(cls, level: Any) -> Any:
        return level.upper() if isinstance(level, str) else level

    @model_validator(mode="after")
    def _leave_room_for_a_lost_beat(self) -> Self:
        if self.lease_seconds <= 2 * self.beat_seconds:
            message = (
                f"PIPELINE_LEASE_SECONDS ({self.lease_seconds:g}) must be more than twice PIPELINE_BEAT_SECONDS "
                f"({self.beat_seconds:g}), or one late beat costs a worker its claims"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _keep_the_two_schemas_apart(self) -> Self:
        if self.schema_name == self.inbox_schema:
            message = f"PIPELINE_SCHEMA and PIPELINE_INBOX_SCHEMA must differ; both are {self.schema_name!r}"
            raise ValueError(message)
        return self


def is_loopback(host: str) -> bool:
    """Tell whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


@cache
def get_settings() -> Settings:
    """Read the environment once per process.

    Raises:
        ConfigurationError: A variable is wrong; the message names each of them.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError(_explanation(error)) from None


def environment(**fields: object) -> dict[str, str]:
    """Give the environment of a child process: ours, with some settings replaced."""
    changes = {f"PIPELINE_{name.upper()}": str(value) for name, value in fields.items()}
    if "database_url" in fields:
        changes["DATABASE_URL"] = str(fields["database_url"])
    return {**os.environ, **changes}


def _explanation(error: ValidationError) -> str:
    """Say what is wrong in the words of the environment, which is what the reader can change."""
    lines = [f"  {_variable(detail['loc'])}{_reason(detail['msg'])}" for detail in error.errors()]
    return "\n".join(["The configuration is wrong:", *lines])


def _variable(location: tuple[int | str, ...]) -> str:
    """Name the variable, or nothing where several together are wrong and the reason names them."""
    if not location:
        return ""
    name = str(location[0])
    return f"{name}: " if name.isupper() else f"PIPELINE_{name.upper()}: "


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
