"""Start PostgreSQL's programs although we are root, which they refuse.

Two ways, tried in this order:

1. A user namespace in which we are not root. Nothing on the machine changes, files stay ours, and data and binaries may
   lie below a private home directory.
2. Where the kernel or the container forbids that: an existing user without rights. It must be able to reach binaries
   and data, so binaries below a private directory are copied to where it can.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.db.binaries import Binaries
from pipeline.errors import EmbeddedServerError

_IN_NAMESPACE = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
_EXISTING_USERS = ("postgres", "nobody")
_COPIES = Path("/var/lib/pipeline-postgres")


@dataclass(frozen=True)
class Identity:
    """Whom PostgreSQL runs as: a command to put in front, or a user to change to, or neither."""

    prefix: tuple[str, ...] = ()
    user: str | None = None

    def own(self, path: Path, *, mode: int) -> None:
        """Hand a file or directory to that user."""
        path.chmod(mode)
        if self.user:
            shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    @property
    def group(self) -> int | None:
        """The user's own group, to leave root's behind."""
        return pwd.getpwnam(self.user).pw_gid if self.user else None

    def command(self, *arguments: str) -> list[str]:
        """Give the command line that runs as this identity."""
        return [*self.prefix, *arguments]


def identity() -> Identity:
    """Choose whom PostgreSQL shall run as.

    Raises:
        EmbeddedServerError: We are root, may not make a user namespace, and there is no other user.
    """
    if os.geteuid() != 0:
        return Identity()
    if _can_make_namespace():
        return Identity(prefix=_IN_NAMESPACE)
    return Identity(user=_existing_user())


def reachable(binaries: Binaries, who: Identity) -> Binaries:
    """Give binaries that this identity can run, copying them once if it must be."""
    if who.user is None or _can_run(binaries, who):
        return binaries
    copy = Binaries(_copy(binaries.directory), binaries.version)
    if not _can_run(copy, who):
        message = f"The user {who.user} cannot run PostgreSQL from {copy.directory}"
        raise EmbeddedServerError(message)
    return copy


def _can_make_namespace() -> bool:
    try:
        return subprocess.run([*_IN_NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _existing_user() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    for user in _EXISTING_USERS:
        if user in known:
            return user
    message = "PostgreSQL does not run as root. Start as another user, or set DATABASE_URL to a server you have."
    raise EmbeddedServerError(message)


def _can_run(binaries: Binaries, who: Identity) -> bool:
    command = [binaries.program("postgres"), "--version"]
    try:
        done = subprocess.run(
            command, user=who.user, group=who.group, extra_groups=[], cwd="/", capture_output=True, check=False
        )
    except OSError:
        return False
    return done.returncode == 0


def _copy(directory: Path) -> Path:
    """Copy an installation to where everybody can read it, once per installation."""
    installation = directory.parent
    target = _COPIES / f"{installation.name}-{int(installation.stat().st_mtime)}"
    if not target.exists():
        _copy_with_libraries(installation, target)
    return target / installation.parent.name / installation.name / directory.name


def _copy_with_libraries(installation: Path, target: Path) -> None:
    """Copy the programs and what stands beside them; the copy appears under its name only when it is complete.

    The wheel's programs find libpq by a relative path in the sibling ``<package>.libs``, so that layout is kept.
    """
    package = installation.parent
    libraries = package.with_name(f"{package.name}.libs")
    _COPIES.mkdir(mode=0o755, parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=_COPIES))
    shutil.copytree(installation, unfinished / package.name / installation.name, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, unfinished / libraries.name)
    for made in (_COPIES, unfinished, unfinished / package.name):
        made.chmod(0o755)
    with suppress(OSError):  # another process was first
        unfinished.rename(target)
    shutil.rmtree(unfinished, ignore_errors=True)
