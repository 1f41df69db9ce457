"""The account that runs the server. PostgreSQL refuses to run as root, so root starts it as another account."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from service.errors import StartupError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An account of the operating system.

    Attributes:
        is_current: True if it is the account of this process.
    """

    name: str
    uid: int
    gid: int
    is_current: bool

    @property
    def switch(self) -> dict[str, object]:
        """The arguments that make `subprocess` run a program as this account."""
        return {} if self.is_current else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Sets the owner of a folder to the account and its mode to 0700."""
        path.chmod(0o700)
        if not self.is_current:
            os.chown(path, self.uid, self.gid)

    def require_parents_accessible(self, path: Path) -> None:
        """Raises StartupError if the account lacks the permission to enter a parent folder of `path`."""
        if self.is_current:
            return
        for folder in reversed(path.resolve().parents):
            if not self._may_enter(folder):
                raise StartupError(
                    f"PostgreSQL does not run as root, and the account {self.name!r}, which runs it instead, has no "
                    f"permission to enter {folder}. Choose another data folder, for example "
                    "REGISTRY_DATA_DIR=/var/lib/identity-registry, or start the service as an ordinary user."
                )

    def _may_enter(self, folder: Path) -> bool:
        status = folder.stat()
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def server_account() -> Account:
    """Returns the account of this process or, if that is root, `postgres` or `nobody`. Raises StartupError."""
    if os.geteuid() != 0:
        return Account(str(os.geteuid()), os.geteuid(), os.getegid(), is_current=True)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, is_current=False)
    raise StartupError(
        "PostgreSQL does not run as root, and no account `postgres` or `nobody` exists. Create one of them, "
        "or start the service as an ordinary user."
    )
