import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from pipeline.db import binaries, embedded, unprivileged
from pipeline.db.cluster import Home
from pipeline.errors import DatabaseUnavailable, EmbeddedServerError
from pipeline.settings import Settings
from tests.fixtures.database import query
from tests.fixtures.wait import eventually

AVAILABLE = list(binaries.candidates())


@pytest.fixture
def home():
    """A place that another user can reach, too; pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="pipeline-embedded-") as directory:
        yield Path(directory) / "postgres"


@pytest.fixture(params=AVAILABLE, ids=lambda one: one.version)
def pg_bin(request):
    return request.param.directory


@pytest.fixture(scope="session")
def cluster_made_once():
    with tempfile.TemporaryDirectory(prefix="pipeline-embedded-") as directory:
        with embedded.start(Path(directory) / "postgres"):
            pass
        yield Path(directory) / "postgres"


@pytest.fixture
def stopped(home, cluster_made_once):
    """A home whose server was started before and stopped."""
    return shutil.copytree(cluster_made_once, home)


def run_python(code, *arguments, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


START_AND_WAIT = """
    import sys, threading
    from pathlib import Path
    from pipeline.db import embedded

    server = embedded.start(Path(sys.argv[1]))
    print(server.pid, server.adopted, flush=True)
    if sys.argv[2] == "wait":
        threading.Event().wait()
"""


# --- any PostgreSQL ---------------------------------------------------------------------------------------------------


def test_there_is_a_postgresql_to_test():
    assert AVAILABLE


def test_a_server_lives_as_long_as_its_block_and_keeps_its_data(home, pg_bin):
    with embedded.start(home, pg_bin=pg_bin) as server:
        query(server.url, "CREATE TABLE kept AS SELECT 42 AS value; SELECT 1")
        first_url = server.url
        assert not server.adopted
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(first_url)

    with embedded.start(home, pg_bin=pg_bin) as server:
        assert query(server.url, "SELECT value FROM kept") == 42
        assert server.url == first_url


def test_the_server_speaks_german_and_utf8(home, pg_bin):
    with embedded.start(home, durable=False, pg_bin=pg_bin) as server:
        assert query(server.url, "SELECT upper('äöü')") == "ÄÖÜ"
        assert query(server.url, "SHOW server_encoding") == "UTF8"


def test_a_throw_away_server_leaves_nothing(home, pg_bin):
    with embedded.start(home, durable=False, pg_bin=pg_bin) as server:
        assert query(server.url, "SHOW fsync") == "off"
        assert int(query(server.url, "SHOW max_connections")) == 200

    assert not home.exists()


def test_nobody_gets_in_without_the_password(home, pg_bin):
    with embedded.start(home, durable=False, pg_bin=pg_bin) as server:
        wrong = re.sub(":[^:@]*@", ":wrong@", server.url)

        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(wrong)


def test_the_server_is_killed_with_the_process_that_started_it(stopped):
    parent = run_python(START_AND_WAIT, stopped, "wait")
    pid, _ = parent.stdout.readline().split()

    parent.kill()
    parent.communicate()

    eventually(lambda: not Home(stopped).is_served_by(int(pid)), within=10)
    assert "database system is shut down" in Home(stopped).log.read_text()


def test_a_server_that_nobody_stopped_ends_with_a_process_that_ends_well(stopped):
    parent = run_python(START_AND_WAIT, stopped, "go")
    pid, _ = parent.communicate()[0].split()

    assert parent.returncode == 0
    assert not Home(stopped).is_served_by(int(pid))


# --- adopting ---------------------------------------------------------------------------------------------------------


def test_a_running_server_is_adopted_and_left_running(stopped):
    with embedded.start(stopped) as server:
        adopter = run_python(START_AND_WAIT, stopped, "go")

        assert adopter.communicate()[0].split() == [str(server.pid), "True"]
        assert query(server.url, "SELECT 1") == 1


def test_many_starters_get_one_server(home):
    starters = [run_python(START_AND_WAIT, home, "wait") for _ in range(4)]
    answers = [starter.stdout.readline().split() for starter in starters]
    for starter in starters:
        starter.kill()
        starter.communicate()

    assert len({pid for pid, _ in answers}) == 1
    assert sorted(adopted for _, adopted in answers) == ["False", "True", "True", "True"]


def test_a_forked_child_does_not_stop_its_parents_server(home):
    with embedded.start(home, durable=False) as server:
        child = os.fork()
        if child == 0:
            server.stop()
            os._exit(0)
        os.waitpid(child, 0)

        assert query(server.url, "SELECT 1") == 1


def test_a_crash_of_the_server_is_recovered_from(stopped):
    server = embedded.start(stopped)
    query(server.url, "CREATE TABLE kept AS SELECT 42 AS value; SELECT 1")
    os.kill(server.pid, signal.SIGKILL)
    server.stop()

    with embedded.start(stopped) as again:
        assert again.pid != server.pid
        assert query(again.url, "SELECT value FROM kept") == 42


def test_a_pid_that_somebody_else_has_now_does_not_count(stopped):
    (stopped / "cluster/postmaster.pid").write_text(f"{os.getpid()}\n{stopped / 'cluster'}\n")

    assert Home(stopped).postmaster_pid() is None


def test_a_server_that_does_not_know_our_password_is_not_adopted(stopped, monkeypatch):
    monkeypatch.setattr(embedded, "_ADOPT_SECONDS", 0.2)
    with embedded.start(stopped):
        record = stopped / "server.json"
        kept = record.read_text()
        record.write_text(json.dumps(json.loads(kept) | {"password": "wrong"}))

        with pytest.raises(EmbeddedServerError, match="does not let us in"):
            embedded.start(stopped)

        record.write_text(kept)


# --- what is not ours -------------------------------------------------------------------------------------------------


def test_a_foreign_data_directory_is_refused_and_not_touched(home):
    home.mkdir()
    (home / "PG_VERSION").write_text("15\n")

    with pytest.raises(EmbeddedServerError, match="not made by us"):
        embedded.start(home)

    assert [path.name for path in home.iterdir()] == ["PG_VERSION"]


def test_a_cluster_without_our_record_is_refused(home):
    (home / "cluster").mkdir(parents=True)

    with pytest.raises(EmbeddedServerError, match="not made by us"):
        embedded.start(home)


def test_a_damaged_record_is_an_error_and_no_new_cluster(stopped):
    (stopped / "server.json").write_text("{")

    with pytest.raises(EmbeddedServerError, match="left alone"):
        embedded.start(stopped)


def test_a_damaged_cluster_is_an_error_and_no_new_cluster(stopped):
    (stopped / "cluster/PG_VERSION").unlink()

    with pytest.raises(EmbeddedServerError, match="damaged"):
        embedded.start(stopped)


def test_a_cluster_of_another_version_is_never_made_anew(stopped):
    (stopped / "cluster/PG_VERSION").write_text("9\n")

    with pytest.raises(EmbeddedServerError, match="made by PostgreSQL 9, but there is only"):
        embedded.start(stopped)


@pytest.mark.skipif(len({one.major for one in AVAILABLE}) < 2, reason="only one major version is installed")
def test_a_cluster_is_started_by_the_version_that_made_it(home):
    oldest = min(AVAILABLE, key=lambda one: one.order)
    with embedded.start(home, pg_bin=oldest.directory):
        pass

    with embedded.start(home) as server:
        assert server.version == oldest.version


def test_an_interrupted_initdb_is_done_again(home):
    (home / "cluster.unfinished/base").mkdir(parents=True)

    with embedded.start(home, durable=False) as server:
        assert query(server.url, "SELECT 1") == 1


def test_a_server_that_cannot_start_says_why(stopped):
    (stopped / "cluster/postgresql.conf").write_text("no_such_setting = 1\n")

    with pytest.raises(EmbeddedServerError, match="no_such_setting"):
        embedded.start(stopped)


def test_a_taken_port_is_not_fatal(stopped):
    with socket.create_server(("127.0.0.1", 0)) as somebody:
        port = somebody.getsockname()[1]
        record = stopped / "server.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | {"port": port}))

        with embedded.start(stopped) as server:
            assert f":{port}/" not in server.url


# --- who may read it --------------------------------------------------------------------------------------------------


def test_the_password_is_private(stopped):
    with embedded.start(stopped):
        assert stat.S_IMODE((stopped / "server.json").stat().st_mode) == 0o600
        assert not (stopped / "initdb.password").exists()


def test_the_server_listens_on_loopback_only(home):
    with embedded.start(home, durable=False) as server:
        assert query(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert query(server.url, "SHOW unix_socket_directories") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")
def test_root_without_user_namespaces_steps_down_to_another_user(home, tmp_path, monkeypatch):
    """The kernel of many containers forbids user namespaces; here a failing ``unshare`` stands for it."""
    refusing = tmp_path / "unshare"
    refusing.write_text("#!/bin/sh\nexit 1\n")
    refusing.chmod(0o755)
    home.parent.chmod(0o711)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    with embedded.start(home, durable=False) as server:
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        assert query(server.url, "SELECT 1") == 1

    assert not home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to step down")
@pytest.mark.parametrize("one", AVAILABLE[:1], ids=lambda one: one.version)
def test_binaries_that_another_user_cannot_reach_are_copied_with_their_libraries(one, home, tmp_path, monkeypatch):
    package, libraries = one.directory.parent.parent, one.directory.parent.parent.with_suffix(".libs")
    private = tmp_path / "private" / package.name
    shutil.copytree(one.directory.parent, private / one.directory.parent.name, symlinks=True)
    shutil.copytree(libraries, private.with_name(libraries.name))
    (tmp_path / "private").chmod(0o700)
    home.parent.chmod(0o711)
    monkeypatch.setattr(unprivileged, "_COPIES", home.parent / "copies")
    somebody = unprivileged.Identity(user="nobody")

    hidden = binaries.Binaries(private / one.directory.parent.name / "bin", one.version)
    copy = unprivileged.reachable(hidden, somebody)

    assert (home.parent / "copies") in copy.directory.parents
    assert unprivileged.reachable(copy, somebody) is copy
    assert unprivileged.reachable(hidden, somebody) == copy


# --- which server -----------------------------------------------------------------------------------------------------


def test_without_an_address_an_embedded_server_is_used(home):
    with embedded.start(home) as server:
        assert embedded.database_url(Settings(data_dir=home.parent)) == server.url


def test_a_given_address_is_used(server_url):
    assert embedded.database_url(Settings(database_url=server_url)) == server_url


def test_a_given_address_that_does_not_answer_is_final(home):
    settings = Settings(database_url="postgresql://u:geheim@127.0.0.1:1/db", data_dir=home.parent)

    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1") as raised:
        embedded.database_url(settings)

    assert "geheim" not in str(raised.value)
    assert not home.exists()


def test_a_directory_named_by_the_operator_is_the_only_one(home, tmp_path):
    with pytest.raises(EmbeddedServerError, match="PIPELINE_PG_BIN"):
        embedded.start(home, pg_bin=tmp_path)


def test_without_any_postgresql_both_ways_out_are_named(monkeypatch):
    monkeypatch.setattr(binaries, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(binaries, "_SYSTEM", Path("/nonexistent"))
    monkeypatch.setenv("PATH", "/nonexistent")

    with pytest.raises(EmbeddedServerError, match=r"(?s)DATABASE_URL.*pip install.*apt-get install postgresql"):
        binaries.choose()


def test_the_session_server_is_reused_by_a_second_connection(server_url):
    with closing(psycopg2.connect(server_url)) as connection:
        assert connection.server_version >= 140000
