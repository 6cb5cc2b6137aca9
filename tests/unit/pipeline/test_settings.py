import pytest

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings, get_settings, is_loopback


@pytest.fixture(autouse=True)
def forget_settings():
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


def test_everything_has_a_default():
    settings = Settings()

    assert settings.database_url is None
    assert (settings.schema_name, settings.inbox_schema) == ("pipeline", "dramatiq")


def test_our_own_variable_wins_over_the_common_one(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "postgresql://common/db")
    assert Settings().database_url == "postgresql://common/db"

    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://ours/db")
    assert Settings().database_url == "postgresql://ours/db"


def test_an_empty_variable_counts_as_absent(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("PIPELINE_HTTP_PORT", "")

    assert Settings().database_url is None
    assert Settings().http_port == 8000


def test_the_schema_has_a_short_variable(monkeypatch):
    monkeypatch.setenv("PIPELINE_SCHEMA", "erp_tasks")

    assert Settings().schema_name == "erp_tasks"


def test_settings_can_be_made_by_name():
    assert Settings(database_url="postgresql://h/db", schema_name="x").schema_name == "x"


def test_the_log_level_may_be_written_in_small_letters(monkeypatch):
    monkeypatch.setenv("PIPELINE_LOG_LEVEL", "debug")

    assert Settings().log_level == "DEBUG"


def test_settings_are_read_once(monkeypatch):
    first = get_settings()
    monkeypatch.setenv("PIPELINE_THREADS", "3")

    assert get_settings() is first


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "mysql://root@localhost/erp"),
        ("PIPELINE_SCHEMA", 'x"; DROP SCHEMA public'),
        ("PIPELINE_INBOX_PREFIX", "a-b"),
        ("PIPELINE_LEASE_SECONDS", "soon"),
        ("PIPELINE_HTTP_PORT", "70000"),
        ("PIPELINE_PROCESSES", "0"),
        ("PIPELINE_LOG_FORMAT", "xml"),
        ("PIPELINE_SECRET_KEY", "short"),
        ("PIPELINE_CORS_ORIGINS", "*"),
        ("PIPELINE_CORS_ORIGINS", "https://shop.example/path"),
        ("PIPELINE_CORS_ORIGINS", "shop.example"),
        ("PIPELINE_HTTP_PROXIES", "-1"),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=variable):
        get_settings()


def test_all_wrong_variables_are_named_at_once(monkeypatch):
    monkeypatch.setenv("PIPELINE_THREADS", "many")
    monkeypatch.setenv("PIPELINE_PROCESSES", "few")

    with pytest.raises(ConfigurationError, match=r"(?s)PIPELINE_PROCESSES.*PIPELINE_THREADS"):
        get_settings()


def test_a_lease_leaves_room_for_a_lost_beat(monkeypatch):
    monkeypatch.setenv("PIPELINE_LEASE_SECONDS", "2")
    with pytest.raises(ConfigurationError, match=r"PIPELINE_LEASE_SECONDS \(2\) must be more than twice"):
        get_settings()

    monkeypatch.setenv("PIPELINE_BEAT_SECONDS", "0.5")
    assert get_settings().lease_seconds == 2


def test_our_schema_is_not_the_inbox(monkeypatch):
    monkeypatch.setenv("PIPELINE_SCHEMA", "dramatiq")

    with pytest.raises(ConfigurationError, match="must differ"):
        get_settings()


def test_a_wrong_url_is_not_repeated_since_it_may_hold_a_password(monkeypatch):
    monkeypatch.setenv("DATABASE_URL", "mysql://root:geheim@localhost/erp")

    with pytest.raises(ConfigurationError) as raised:
        get_settings()

    assert "geheim" not in str(raised.value)


def test_no_password_shows_when_settings_are_printed():
    address = "postgresql://u:geheim@h/db"
    settings = Settings(database_url=address, listen_database_url=address, secret_key="geheim" * 6)

    assert "geheim" not in f"{settings!r} {settings}"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_only_this_machine_reaches_loopback(host):
    assert is_loopback(host)
    assert Settings(http_host=host).is_local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "erp.example", "127.0.0.1.erp.example", ""])  # noqa: S104
def test_others_reach_anything_else(host):
    assert not is_loopback(host)
