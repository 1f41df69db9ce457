"""The embedded PostgreSQL: starts, leases, killed processes and unusable folders."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from service.embedded_postgres import binaries
from service.embedded_postgres.cluster import Cluster
from service.embedded_postgres.lease import EmbeddedPostgres
from service.embedded_postgres.locks import FileLock
from service.errors import StartupError
from tests.server import LEASE, end, keeper_of, lease, processes_of, server_of, wait_for, wait_until_gone

needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs root and a mount namespace",
)


def libpq(url: str) -> str:
    return url.replace("postgresql+psycopg", "postgresql")


def insert_note(url: str, value: int) -> None:
    with psycopg.connect(libpq(url)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS note (value int)")
        connection.execute("INSERT INTO note VALUES (%s)", [value])


def notes(url: str) -> list[int]:
    with psycopg.connect(libpq(url)) as connection:
        return [row[0] for row in connection.execute("SELECT value FROM note ORDER BY value")]


def accepts_connections(url: str) -> bool:
    try:
        with psycopg.connect(libpq(url), connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def test_first_start_and_warm_start_leave_no_process_behind(data_folder: Path) -> None:
    root = data_folder / "postgres"
    with EmbeddedPostgres(root) as url:
        insert_note(url, 1)
        assert (root / "data").stat().st_mode & 0o777 == 0o700
        with psycopg.connect(libpq(url)) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            assert connection.execute("SHOW data_checksums").fetchone() == ("on",)
    wait_until_gone(root)
    started = time.monotonic()
    with EmbeddedPostgres(root) as url:
        assert time.monotonic() - started < 5
        assert notes(url) == [1]
    wait_until_gone(root)


def test_a_killed_server_is_restarted_with_its_data(data_folder: Path) -> None:
    root = data_folder / "postgres"
    with EmbeddedPostgres(root) as url:
        insert_note(url, 1)
        killed = server_of(root)
        killed.kill()
        wait_for(lambda: accepts_connections(url) and server_of(root).pid != killed.pid, 30)
        assert notes(url) == [1]


def test_a_killed_keeper_ends_the_server_and_both_are_restarted(data_folder: Path) -> None:
    root = data_folder / "postgres"
    with EmbeddedPostgres(root) as url:
        insert_note(url, 1)
        keeper, server = keeper_of(root), server_of(root)
        keeper.kill()
        wait_for(lambda: not server.is_running() or server.status() == "zombie", 30)
        wait_for(lambda: accepts_connections(url), 30)
        assert keeper_of(root).pid != keeper.pid
        assert notes(url) == [1]
    wait_until_gone(root)


def test_after_all_processes_are_killed_the_server_starts_again(data_folder: Path) -> None:
    root = data_folder / "postgres"
    holder = lease(root)
    insert_note(Cluster(root).url, 1)
    for process in [keeper_of(root), server_of(root)]:
        process.kill()
    holder.kill()
    holder.communicate()
    with EmbeddedPostgres(root) as url:
        assert notes(url) == [1]


def test_the_server_ends_when_its_last_user_is_killed(data_folder: Path) -> None:
    root = data_folder / "postgres"
    holder = lease(root)
    assert processes_of(root)
    holder.kill()
    holder.communicate()
    wait_until_gone(root)


def test_users_share_one_server_and_end_independently(data_folder: Path) -> None:
    root = data_folder / "postgres"
    first = lease(root)
    server = server_of(root)
    second = lease(root)
    assert server_of(root) == server
    assert end(first) == 0
    assert accepts_connections(Cluster(root).url)
    third = lease(root)
    assert end(second) == 0
    assert accepts_connections(Cluster(root).url)
    assert server_of(root) == server
    assert end(third) == 0
    wait_until_gone(root)


def test_concurrent_starts_share_one_server(data_folder: Path) -> None:
    root = data_folder / "postgres"
    command = [sys.executable, "-c", LEASE, str(root)]
    users = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    urls = {user.stdout.readline() for user in users if user.stdout}
    assert len(urls) == 1
    assert urls.pop().startswith("postgresql")
    assert [end(user) for user in users] == [0] * 4
    wait_until_gone(root)


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


def test_a_lock_is_shared_or_exclusive(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    a, b = FileLock(path), FileLock(path)
    assert a.try_shared()
    assert b.try_shared()
    assert not FileLock(path).try_exclusive()
    a.release()
    with pytest.raises(TimeoutError):
        FileLock(path).acquire(timeout_s=0.1)
    b.release()
    assert a.is_free()
    with FileLock(path) as held:
        held.acquire(timeout_s=1)
        assert not FileLock(path).try_shared()
