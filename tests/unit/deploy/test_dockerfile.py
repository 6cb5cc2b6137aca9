"""The Dockerfile, read without Docker: what it copies exists, what it installs was checked, what it runs is no root."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    image: str
    name: str | None
    steps: list[tuple[str, str]] = field(default_factory=list)

    def of(self, instruction: str) -> list[str]:
        return [arguments for name, arguments in self.steps if name == instruction]


def parse(text: str) -> list[Stage]:
    """Read a Dockerfile: comments and continued lines are understood, here-documents are not."""
    stages: list[Stage] = []
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, arguments = line.strip().partition(" ")
        if instruction == "FROM":
            image, _, name = arguments.partition(" AS ")
            stages.append(Stage(image, name or None))
        else:
            stages[-1].steps.append((instruction, " ".join(arguments.split())))
    return stages


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return parse((ROOT / "deploy/Dockerfile").read_text())


def test_every_stage_begins_with_a_pinned_image_or_an_earlier_stage(stages: list[Stage]) -> None:
    known: set[str | None] = set()
    for stage in stages:
        assert stage.image in known or re.fullmatch(r"python:3\.12-slim-bookworm", stage.image)
        known.add(stage.name)


def test_what_is_copied_exists_in_the_tree_or_in_an_earlier_stage(stages: list[Stage]) -> None:
    known: set[str | None] = set()
    for stage in stages:
        for arguments in stage.of("COPY"):
            source, words = re.match(r"(?:--from=(\S+) )?(.+)", arguments).groups()  # type: ignore[union-attr]
            if source is not None:
                assert source in known
                continue
            for path in words.split()[:-1]:
                assert (ROOT / path).exists(), f"COPY {path}"
        known.add(stage.name)


def test_all_that_the_wheel_holds_is_copied(stages: list[Stage]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml"}
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}

    copied = {word for arguments in stages[1].of("COPY") for word in arguments.split()[:-1]}

    assert needed <= copied


def test_nothing_is_installed_whose_hash_was_not_checked(stages: list[Stage]) -> None:
    installs = [run for stage in stages for run in stage.of("RUN") if re.search(r"\bpip\b", run)]
    fetches = [run for run in installs if "--no-index" not in run]

    assert len(fetches) == 1
    assert "--require-hashes" in fetches[0]
    assert "requirements.lock" in fetches[0]
    assert not [run for stage in stages for run in stage.of("RUN") if re.search(r"\b(curl|wget|apt-get)\b", run)]


def test_the_last_stage_is_not_root_and_stops_on_sigterm(stages: list[Stage]) -> None:
    last = stages[-1]

    (user,) = last.of("USER")
    uid, gid = user.split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert [name for name, _ in last.steps if name in {"RUN", "COPY"}] == [
        name for name, _ in last.steps[: last.steps.index(("USER", user))] if name in {"RUN", "COPY"}
    ]
    assert last.of("STOPSIGNAL") == ["SIGTERM"]


def test_the_entry_point_is_the_console_script_without_a_shell(stages: list[Stage]) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    (entry,) = stages[-1].of("ENTRYPOINT")
    (command,) = stages[-1].of("CMD")
    assert json.loads(entry) == ["pipeline"]
    assert "pipeline" in scripts
    assert json.loads(command) == ["worker"]


def test_the_parser_understands_what_the_file_uses() -> None:
    (first, last) = parse("# a comment\nFROM one AS two\nRUN a \\\n  b\n\nFROM two\nUSER 0\n")

    assert (first.image, first.name, first.of("RUN")) == ("one", "two", ["a b"])
    assert (last.image, last.name, last.of("USER")) == ("two", None, ["0"])
