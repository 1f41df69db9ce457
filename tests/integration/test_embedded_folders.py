"""The embedded PostgreSQL: leftovers of earlier starts, unusable folders, accounts and CPUs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.embedded_postgres import binaries
from service.embedded_postgres.cluster import Cluster
from service.embedded_postgres.lease import EmbeddedPostgres
from service.errors import StartupError
from tests.integration.note_table import accepts_connections, insert_note, notes
from tests.server import LEASE, server_of, wait_until_gone

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs root and a mount namespace",
)


def test_a_stale_pid_of_an_unrelated_process_and_a_stale_socket_lock_are_cleared(data_folder: Path) -> None:
    root = data_folder / "postgres"
    with EmbeddedPostgres(root) as url:
        insert_note(url, 1)
    unrelated = os.getppid()  # a running process that is not PostgreSQL
    (root / "data" / "postmaster.pid").write_text(
        f"{unrelated}\n{root / 'data'}\n1\n5432\n{root / 'socket'}\n\n\nready\n"
    )
    (root / "socket" / ".s.PGSQL.5432.lock").write_text(f"{unrelated}\n{root / 'data'}\n1\n5432\n")
    with EmbeddedPostgres(root) as url:
        assert notes(url) == [1]


def test_a_long_path_has_a_short_socket_folder(data_folder: Path) -> None:
    root = data_folder / ("long" * 25)
    assert len(str(Cluster(root).socket_folder)) < 90
    with EmbeddedPostgres(root) as url:
        assert accepts_connections(url)
    shutil.rmtree(Cluster(root).socket_folder)


def test_data_of_another_major_version_is_not_changed(data_folder: Path) -> None:
    root = data_folder / "postgres"
    (root / "data").mkdir(parents=True)
    (root / "data" / "PG_VERSION").write_text("16\n")
    with pytest.raises(StartupError, match="belongs to PostgreSQL 16, and this release contains PostgreSQL 18"):
        EmbeddedPostgres(root).start()
    wait_until_gone(root)
    assert (root / "data" / "PG_VERSION").read_text() == "16\n"


def test_a_folder_with_other_files_is_not_used(data_folder: Path) -> None:
    (data_folder / "data").mkdir()
    with pytest.raises(StartupError, match="is not a PostgreSQL data folder"):
        EmbeddedPostgres(data_folder).start()


def test_an_interrupted_first_start_is_repeated(data_folder: Path) -> None:
    partial = data_folder / "postgres" / "data.partial"
    partial.mkdir(parents=True)
    (partial / "PG_VERSION").write_text("half")
    with EmbeddedPostgres(data_folder / "postgres") as url:
        assert accepts_connections(url)


def test_a_cpu_without_avx2_is_refused(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor : 0\nflags : fpu sse4_2 avx\n")
    with pytest.raises(StartupError, match="AVX2"):
        binaries.require_supported_cpu(cpuinfo, machine="x86_64")
    cpuinfo.write_text("processor : 0\nflags : fpu avx avx2\n")
    binaries.require_supported_cpu(cpuinfo, machine="x86_64")
    binaries.require_supported_cpu(cpuinfo, machine="aarch64")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
def test_the_error_names_the_folder_that_the_account_of_the_server_cannot_enter(data_folder: Path) -> None:
    closed = data_folder / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(StartupError, match=f"has no permission to enter {closed}"):
        EmbeddedPostgres(closed / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
def test_root_does_not_run_the_server(data_folder: Path) -> None:
    with EmbeddedPostgres(data_folder / "postgres"):
        assert server_of(data_folder / "postgres").uids().real != 0


def in_namespace(script: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs a shell script as root in a new mount namespace."""
    return subprocess.run(
        ["unshare", "-m", "sh", "-euc", script, "sh", *arguments],
        input="", capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


@needs_mount
def test_a_full_data_folder_is_reported(data_folder: Path) -> None:
    script = 'mount -t tmpfs -o size=60m,mode=711 tmpfs "$1"; exec "$2" -c "$3" "$1/postgres"'
    result = in_namespace(script, str(data_folder), sys.executable, LEASE)
    assert result.returncode == 1
    assert "MB free; a new database needs" in result.stderr


@needs_mount
def test_a_data_folder_that_becomes_full_is_reported(data_folder: Path) -> None:
    script = """
        mount -t tmpfs -o size=320m,mode=711 tmpfs "$1"
        "$2" -c "$3" "$1/postgres"
        dd if=/dev/zero of="$1/filler" bs=64k status=none || true
        exec "$2" -c "$3" "$1/postgres"
    """
    result = in_namespace(script, str(data_folder), sys.executable, LEASE)
    assert result.returncode == 1, result.stdout
    assert "space" in result.stderr


@needs_mount
def test_a_read_only_data_folder_is_reported(data_folder: Path) -> None:
    script = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; exec "$2" -c "$3" "$1/postgres"'
    result = in_namespace(script, str(data_folder), sys.executable, LEASE)
    assert result.returncode == 1
    assert "read-only" in result.stderr


@needs_mount
def test_an_ordinary_user_runs_the_server_without_another_account(data_folder: Path) -> None:
    """Mounts the interpreter, the packages and the code where `nobody` can read them."""
    home = data_folder / "home"
    site = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    repository = Path(__file__).parents[2]
    for name in ("python", "site", "code", "data"):
        (home / name).mkdir(parents=True)
        (home / name).chmod(0o755)
    home.chmod(0o755)
    os.chown(home / "data", 65534, 65534)
    script = """
        mount --bind "$2" "$1/python"; mount --bind "$3" "$1/site"; mount --bind "$4" "$1/code"
        cd /
        exec setpriv --reuid 65534 --regid 65534 --clear-groups env -i PYTHONPATH="$1/code:$1/site" HOME=/nonexistent \
            PYTHONDONTWRITEBYTECODE=1 LD_LIBRARY_PATH="$1/python/lib" "$1/python/bin/python3" -c "$5" "$1/data/postgres"
    """
    result = in_namespace(script, str(home), sys.base_prefix, str(site), str(repository), LEASE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("postgresql+psycopg://")
    assert (home / "data" / "postgres" / "data").stat().st_uid == 65534
