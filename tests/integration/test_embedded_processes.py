"""The embedded PostgreSQL: starts, leases, shared servers and killed processes."""

import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from service.embedded_postgres.cluster import Cluster
from service.embedded_postgres.lease import EmbeddedPostgres
from service.embedded_postgres.locks import FileLock
from tests.integration.note_table import accepts_connections, insert_note, libpq, notes
from tests.server import LEASE, end, keeper_of, lease, processes_of, server_of, wait_for, wait_until_gone


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
