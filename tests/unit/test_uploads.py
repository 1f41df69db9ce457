"""Uploaded archives keep to the quota, to the reserve of free disk space and to the deadline."""

import asyncio
import os
import threading
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.errors import RequestTimeout, StorageFull
from service.jobs.upload_space import STEP_BYTES
from service.jobs.uploads import UploadLimits, Uploads

pytestmark = pytest.mark.anyio
MIB = 1024**2


def uploads(folder: Path, total: int = 8 * MIB, min_free: int = 0, timeout_s: float = 60) -> Uploads:
    return Uploads(folder, UploadLimits(total, min_free, timeout_s, 1000))


async def parts(size: int, part: int = 64 * 1024, delay_s: float = 0) -> AsyncIterator[bytes]:
    for start in range(0, size, part):
        await asyncio.sleep(delay_s)
        yield b"x" * min(part, size - start)


def stored(folder: Path) -> dict[str, int]:
    return {file.suffix: file.stat().st_size for file in folder.glob("*-*")}


async def test_archive_has_its_own_size_after_the_upload(tmp_path: Path) -> None:
    job_id = uuid.uuid4()
    await uploads(tmp_path).receive(job_id, parts(MIB + 1))
    assert uploads(tmp_path).path(job_id).read_bytes() == b"x" * (MIB + 1)
    assert stored(tmp_path) == {".zip": MIB + 1}


async def test_quota_counts_stored_archives(tmp_path: Path) -> None:
    await uploads(tmp_path).receive(uuid.uuid4(), parts(6 * MIB))
    with pytest.raises(StorageFull, match="max_upload_bytes_total"):
        await uploads(tmp_path).receive(uuid.uuid4(), parts(2 * MIB + 1))
    assert stored(tmp_path) == {".zip": 6 * MIB}
    await uploads(tmp_path).receive(uuid.uuid4(), parts(2 * MIB))


async def test_declared_size_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    read = []

    async def recorded() -> AsyncIterator[bytes]:
        async for part in parts(MIB):
            read.append(part)
            yield part

    with pytest.raises(StorageFull):
        await uploads(tmp_path).receive(uuid.uuid4(), recorded(), 8 * MIB + 1)
    assert read == []
    assert stored(tmp_path) == {}


async def test_concurrent_uploads_together_keep_to_the_quota(tmp_path: Path) -> None:
    """Each upload has an own object, as in several processes that share the folder."""
    highest = 0
    stopped = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not stopped.is_set():
            highest = max(highest, sum(file.stat().st_size for file in tmp_path.glob("*-*") if file.exists()))

    watching = asyncio.create_task(asyncio.to_thread(watch))
    results = await asyncio.gather(
        *(uploads(tmp_path).receive(uuid.uuid4(), parts(5 * MIB, delay_s=0.001)) for _ in range(4)),
        return_exceptions=True,
    )
    stopped.set()
    await asyncio.gather(watching, return_exceptions=True)
    refused = [result for result in results if isinstance(result, StorageFull)]
    assert 3 <= len(refused) <= 4
    assert all(result is None or isinstance(result, StorageFull) for result in results)
    assert STEP_BYTES <= highest <= 8 * MIB
    assert len(stored(tmp_path)) == 4 - len(refused)


async def test_upload_stops_before_the_reserve_of_the_disk_is_used(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    min_free = disk.f_bavail * disk.f_frsize + 1024**4  # more than is free, whatever other programs do meanwhile
    with pytest.raises(StorageFull, match="min_free_disk_bytes"):
        await uploads(tmp_path, min_free=min_free).receive(uuid.uuid4(), parts(MIB))
    assert stored(tmp_path) == {}


async def test_reserve_is_checked_while_the_archive_arrives(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    min_free = disk.f_bavail * disk.f_frsize - 64 * MIB
    with pytest.raises(StorageFull, match="min_free_disk_bytes"):
        await uploads(tmp_path, 2**40, min_free).receive(uuid.uuid4(), parts(4096 * MIB, MIB))
    assert stored(tmp_path) == {}


async def test_slow_upload_ends_at_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(RequestTimeout, match="upload_timeout_s"):
        await uploads(tmp_path, timeout_s=0.3).receive(uuid.uuid4(), parts(MIB, 1, 0.01))
    with pytest.raises(RequestTimeout):
        await uploads(tmp_path, timeout_s=0.3).receive(uuid.uuid4(), parts(MIB, MIB, 60))
    assert stored(tmp_path) == {}
