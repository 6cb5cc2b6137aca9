"""Nothing in the repository depends on the machine it was written on."""

from __future__ import annotations

import re

import pytest

from tests.architecture.tree import Source, sources

#: Spelt so that they do not match themselves. System directories that exist everywhere are no secret.
PATHS = re.compile(r"(?<![\w.])/(?:wor[k]|tm[p]|roo[t]|hom[e])/[\w.]+")

#: Paths inside a container or of a test that are the same on every machine.
SAME_EVERYWHERE: set[str] = set()

URL = re.compile(r"\bhttps?://(?:[^/\s@]*@)?([\w.-]+)")
KNOWN_HOSTS = re.compile(
    r"^(127\.0\.0\.1|localhost|\w|[\w.-]+\.example|example\.com"
    r"|dramatiq\.io|docs\.astral\.sh|docs\.pytest\.org|keepachangelog\.com|semver\.org|bford\.info"
    r"|www\.apache\.org|www\.w3\.org|www\.postgresql\.org|www\.pgbouncer\.org|docs\.sqlalchemy\.org|diataxis\.fr)\.?$"
)
INDEX = re.compile(r"--(?:index-ur[l]|extra-index-ur[l]|trusted-hos[t])\b")

#: requirements.lock is made of names and hashes; its hosts would be the ones looked for.
EVERYTHING = sources()


def strange_hosts(text: str) -> list[str]:
    return [host for host in URL.findall(text.replace("\\.", ".")) if not KNOWN_HOSTS.match(host)]


def test_no_file_names_a_place_of_one_machine() -> None:
    offences = [(source.name, path) for source in EVERYTHING for path in PATHS.findall(source.text)]

    assert [offence for offence in offences if offence[1] not in SAME_EVERYWHERE] == []


def test_every_address_on_the_web_is_a_known_one() -> None:
    assert [(source.name, host) for source in EVERYTHING for host in strange_hosts(source.text)] == []


def test_no_file_names_a_package_index() -> None:
    assert [source.name for source in EVERYTHING if INDEX.search(source.text)] == []


@pytest.mark.parametrize("path", ["/wor" + "k/main", "in /tm" + "p/x/y", "'/roo" + "t/.cache'", "/hom" + "e/me/x"])
def test_such_a_place_is_noticed(path: str) -> None:
    assert PATHS.findall(path)


@pytest.mark.parametrize("host", ["mirror.internal", "files.python" + "hosted.org"])
def test_such_an_address_is_noticed(host: str) -> None:
    assert strange_hosts(f"see http://{host}/simple") == [host]


def test_the_repository_was_read() -> None:
    names = {source.name for source in EVERYTHING}

    assert {"README.md", "dev", ".ci/run", "pipeline/settings.py", "requirements.lock"} <= names
    assert isinstance(EVERYTHING[0], Source)
