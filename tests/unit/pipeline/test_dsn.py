import psycopg2.extensions
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.engine import make_url

from pipeline.db.dsn import Dsn, Host, redact
from pipeline.errors import ConfigurationError

#: What was given, what libpq gets, what SQLAlchemy gets.
SPELLINGS = {
    "the plain form": ("postgresql://u:p@h:1/db", "postgresql://u:p@h:1/db", "postgresql+psycopg2://u:p@h:1/db"),
    "the short scheme": ("postgres://h/db", "postgresql://h/db", "postgresql+psycopg2://h/db"),
    "SQLAlchemy's form": ("postgresql+psycopg2://h/db", "postgresql://h/db", "postgresql+psycopg2://h/db"),
    "parameters": (
        "postgresql://h/db?sslmode=require&options=-c%20x%3D1",
        "postgresql://h/db?sslmode=require&options=-c%20x%3D1",
        "postgresql+psycopg2://h/db?sslmode=require&options=-c%20x%3D1",
    ),
    "several hosts": (
        "postgresql://u@a:1,b:2/db?target_session_attrs=read-write",
        "postgresql://u@a:1,b:2/db?target_session_attrs=read-write",
        "postgresql+psycopg2://u@/db?host=a:1&host=b:2&target_session_attrs=read-write",
    ),
    "several hosts in SQLAlchemy's form": (
        "postgresql+psycopg2:///db?host=a:1&host=b:2",
        "postgresql://a:1,b:2/db",
        "postgresql+psycopg2:///db?host=a:1&host=b:2",
    ),
    "several hosts with one port": (
        "postgresql:///db?host=a,b&port=7",
        "postgresql://a:7,b:7/db",
        "postgresql+psycopg2:///db?host=a:7&host=b:7",
    ),
    "a socket": (
        "postgresql:///db?host=/run/pg&port=5433",
        "postgresql://%2Frun%2Fpg:5433/db",
        "postgresql+psycopg2:///db?host=/run/pg&port=5433",
    ),
    "a socket in libpq's form": (
        "postgresql://u@%2Frun%2Fpg/db",
        "postgresql://u@%2Frun%2Fpg/db",
        "postgresql+psycopg2://u@/db?host=/run/pg",
    ),
    "IPv6": ("postgresql://[::1]:5/db", "postgresql://[::1]:5/db", "postgresql+psycopg2://[::1]:5/db"),
    "nothing but the scheme": ("postgresql://", "postgresql:///", "postgresql+psycopg2:///"),
    "a password with signs": (
        "postgresql://u:a%40b%2Fc%3Ad@h/db",
        "postgresql://u:a%40b%2Fc%3Ad@h/db",
        "postgresql+psycopg2://u:a%40b%2Fc%3Ad@h/db",
    ),
}


@pytest.mark.parametrize(("given_url", "libpq", "sqlalchemy"), SPELLINGS.values(), ids=SPELLINGS)
def test_an_address_is_spelt_for_each_library(given_url, libpq, sqlalchemy):
    dsn = Dsn.parse(given_url)

    assert (dsn.libpq, dsn.sqlalchemy) == (libpq, sqlalchemy)


@pytest.mark.parametrize("url", [spelling[0] for spelling in SPELLINGS.values()], ids=SPELLINGS)
def test_both_libraries_read_the_same_from_their_spelling(url):
    dsn = Dsn.parse(url)

    from_libpq = psycopg2.extensions.parse_dsn(dsn.libpq)
    _, from_sqlalchemy = PGDialect_psycopg2().create_connect_args(make_url(dsn.sqlalchemy))

    assert from_libpq == {key: str(value) for key, value in from_sqlalchemy.items()}


@given(
    user=st.text(min_size=1).filter(lambda text: "\0" not in text),
    password=st.text(min_size=1).filter(lambda text: "\0" not in text),
    database=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
)
def test_any_name_and_password_survives(user, password, database):
    dsn = Dsn(user, password, (Host("h", "1"),), database, ())

    back = Dsn.parse(dsn.libpq)

    assert (back.user, back.password, back.database) == (user, password, database)
    assert Dsn.parse(dsn.sqlalchemy) == back


def test_a_password_is_never_shown():
    url = "postgresql://u:geheim@h/db?password=geheim&sslmode=require"

    assert redact(url) == "postgresql://u:***@h/db?password=***&sslmode=require"
    assert "geheim" not in f"{Dsn.parse(url)!r} {Dsn.parse(url)} {Dsn.parse(url).endpoint}"
    assert "geheim" not in redact("mysql://u:geheim@h/db")


def test_messages_name_host_and_port():
    assert Dsn.parse("postgresql://u:p@a:1,b/db").endpoint == "a:1, b"
    assert Dsn.parse("postgresql:///db").endpoint == "the default socket"


def test_another_database_of_the_same_server():
    assert Dsn.parse("postgresql://u:p@h/one?sslmode=require").with_database("two").libpq == (
        "postgresql://u:p@h/two?sslmode=require"
    )


@pytest.mark.parametrize("url", ["", "h/db", "mysql://h/db", "host=h dbname=db", "postgresql://a:b:c:5/db", "http://x"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ConfigurationError):
        Dsn.parse(url)
