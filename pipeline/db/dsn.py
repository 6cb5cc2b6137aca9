"""Addresses of databases: one parsed form, and the two spellings our libraries want.

libpq (psycopg2, psql) reads ``postgresql://``; SQLAlchemy needs ``postgresql+psycopg2://``, because its 2.1 maps the
bare form to psycopg 3. They also disagree about several hosts and about unix sockets:

===========  ==========================  ==========================================
what         libpq                       SQLAlchemy
===========  ==========================  ==========================================
two hosts    ``…://a:5432,b:5433/db``    ``…:///db?host=a:5432&host=b:5433``
unix socket  ``…://%2Frun%2Fpg/db``      ``…:///db?host=/run/pg``
===========  ==========================  ==========================================

Either spelling is understood, and ``postgres://`` too. Parameters after the question mark are kept.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from pipeline.errors import ConfigurationError

_URL = re.compile(
    r"^(?:postgres|postgresql|postgresql\+psycopg2)://"
    r"(?:(?P<credentials>[^/?#]*)@)?(?P<hosts>[^/?#@]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?$"
)
_HOST = re.compile(r"^(?P<name>\[[^\]]*\]|[^:]*)(?::(?P<port>\d*))?$")


@dataclass(frozen=True)
class Host:
    """One server: a name, an address (IPv6 in brackets) or the directory of a unix socket. Empty is libpq's default."""

    name: str
    port: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.port}" if self.port else self.name

    @property
    def is_socket(self) -> bool:
        """Tell whether this is a directory and not a machine."""
        return self.name.startswith(("/", "@"))


@dataclass(frozen=True)
class Dsn:
    """A parsed address; ``repr`` and ``str`` never show the password."""

    user: str | None
    password: str | None
    hosts: tuple[Host, ...]
    database: str
    parameters: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read either spelling.

        Raises:
            ConfigurationError: It is not a URL of PostgreSQL. The message does not repeat it: it may hold a password.
        """
        match = _URL.match(url.strip())
        if match is None:
            message = "The database's address must look like postgresql://user:password@host:5432/database"
            raise ConfigurationError(message)
        user, password = _credentials(match["credentials"])
        parameters = parse_qsl(match["query"] or "", keep_blank_values=True)
        hosts = _hosts(match["hosts"], parameters)
        rest = tuple(pair for pair in parameters if pair[0] not in {"host", "port"})
        return cls(user, password, hosts, unquote(match["database"] or ""), rest)

    @property
    def libpq(self) -> str:
        """The address for psycopg2 and psql; sockets stand in the authority, where urlparse cannot lose them."""
        hosts = ",".join(_authority(host) for host in self.hosts)
        return self.render("postgresql", hosts, self.parameters)

    @property
    def sqlalchemy(self) -> str:
        """The address for SQLAlchemy, which takes only a single machine in the authority."""
        if len(self.hosts) == 1 and not self.hosts[0].is_socket:
            return self.render("postgresql+psycopg2", str(self.hosts[0]), self.parameters)
        return self.render("postgresql+psycopg2", "", (*_host_parameters(self.hosts), *self.parameters))

    @property
    def endpoint(self) -> str:
        """Where the server is, for messages: hosts and ports only."""
        return ", ".join(str(host) or "the default socket" for host in self.hosts)

    def with_database(self, database: str) -> Self:
        """Point to another database of the same server."""
        return replace(self, database=database)

    def __str__(self) -> str:
        hidden = tuple((key, "***" if key == "password" else value) for key, value in self.parameters)
        masked = replace(self, password=self.password and "***", parameters=hidden)
        return masked.render("postgresql", ",".join(map(str, self.hosts)), hidden)

    __repr__ = __str__

    def render(self, scheme: str, hosts: str, parameters: Iterable[tuple[str, str]]) -> str:
        """Put an address together from what the spellings differ in."""
        query = urlencode(list(parameters), safe="/:*", quote_via=quote)
        return f"{scheme}://{self._userinfo()}{hosts}/{quote(self.database)}" + (f"?{query}" if query else "")

    def _userinfo(self) -> str:
        if self.user is None and self.password is None:
            return ""
        password = "" if self.password is None else f":{quote(self.password, safe='*')}"
        return f"{quote(self.user or '', safe='')}{password}@"


def redact(url: str) -> str:
    """Show an address without its password, whatever it looks like."""
    try:
        return str(Dsn.parse(url))
    except ConfigurationError:
        return "(not an address of PostgreSQL)"


def _credentials(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    user, colon, password = text.partition(":")
    return unquote(user), unquote(password) if colon else None


def _hosts(authority: str, parameters: list[tuple[str, str]]) -> tuple[Host, ...]:
    """Collect the hosts from wherever the spelling keeps them; parameters win, as they do in libpq."""
    named = [name for key, value in parameters if key == "host" for name in value.split(",")]
    ports = [port for key, value in parameters if key == "port" for port in value.split(",")]
    hosts = [_host(text) for text in named or authority.split(",")]
    if ports:
        # libpq: one port for all hosts, or one for each.
        each = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
        hosts = [replace(host, port=host.port or port) for host, port in zip(hosts, each, strict=True)]
    return tuple(hosts)


def _host(text: str) -> Host:
    match = _HOST.match(text)
    if match is None:
        message = f"The database's address names a host that cannot be read: {text}"
        raise ConfigurationError(message)
    return Host(unquote(match["name"]), match["port"] or "")


def _host_parameters(hosts: tuple[Host, ...]) -> list[tuple[str, str]]:
    """Spell hosts as SQLAlchemy reads them: a socket's port apart, since its path may hold a colon."""
    if len(hosts) == 1:
        return [(key, value) for key, value in (("host", hosts[0].name), ("port", hosts[0].port)) if value]
    return [("host", str(host)) for host in hosts]


def _authority(host: Host) -> str:
    return str(replace(host, name=quote(host.name, safe=""))) if host.is_socket else str(host)
