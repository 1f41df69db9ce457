"""Under which account the server runs. PostgreSQL refuses to run as root, so root lends it another one."""

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from service.errors import StartupError

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """The server's account. `switch` holds the keyword arguments that make `subprocess` change to it."""

    name: str
    uid: int
    gid: int
    is_ours: bool

    @property
    def switch(self) -> dict[str, object]:
        return {} if self.is_ours else {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Hand a folder of ours to the account, for it alone."""
        path.chmod(0o700)
        if not self.is_ours:
            os.chown(path, self.uid, self.gid)

    def require_way_to(self, path: Path) -> None:
        """Raise where the account can't enter one of the folders above `path`."""
        if self.is_ours:
            return
        for folder in reversed(path.resolve().parents):
            if not self._may_enter(folder):
                raise StartupError(
                    f"PostgreSQL does not run as root, and the account {self.name!r} that runs it instead can't enter "
                    f"{folder}. Choose a data folder elsewhere, for example "
                    "REGISTRY_DATA_DIR=/var/lib/identity-registry, or start the service from an ordinary account."
                )

    def _may_enter(self, folder: Path) -> bool:
        about = folder.stat()
        if about.st_uid == self.uid:
            return bool(about.st_mode & stat.S_IXUSR)
        if about.st_gid == self.gid:
            return bool(about.st_mode & stat.S_IXGRP)
        return bool(about.st_mode & stat.S_IXOTH)


def server_account() -> Account:
    """Our own account, or `postgres` (else `nobody`) where we are root."""
    if os.geteuid() != 0:
        return Account(str(os.geteuid()), os.geteuid(), os.getegid(), is_ours=True)
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid, is_ours=False)
    raise StartupError("PostgreSQL does not run as root, and there is neither an account `postgres` nor `nobody`")
