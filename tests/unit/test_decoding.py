"""Decoder processes: results without a copy, budgets of CPU time and memory, and replacement after a crash."""

import asyncio
import io
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import psutil
import pytest
from PIL import Image

from service.errors import EngineBusy, ImageTooCostly, ImageTruncated, ImageUnreadable, RegistryError
from service.inference.decoding import pool as decoding_pool
from service.inference.decoding.client import DecoderLimits, DecoderProcess
from service.inference.decoding.pool import MAX_SLOW, SLOW_AFTER_S, DecoderPool
from service.vision.image import ImageLimits, decode
from tests.photos import COLLINS, HOPPER

pytestmark = pytest.mark.anyio
LIMITS = DecoderLimits()


@asynccontextmanager
async def pool(size: int = 1, limits: DecoderLimits = LIMITS) -> AsyncIterator[DecoderPool]:
    decoders = DecoderPool(size, limits)
    await decoders.start()
    try:
        yield decoders
    finally:
        await decoders.stop()


def encoded(width: int, height: int, file_format: str, mode: str = "RGB", **options: object) -> bytes:
    small = np.random.default_rng(0).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((width, height)).convert(mode).save(file, file_format, **options)
    return file.getvalue()


def with_many_scans(scans: int) -> bytes:
    """Returns a progressive JPEG with this many additional refinement scans of four bytes each."""
    data = encoded(2000, 2000, "JPEG", progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    header = data[last : last + 2 + int.from_bytes(data[last + 2 : last + 4], "big")]
    return data[:end] + (header + bytes(4)) * scans + data[end:]


Children = Callable[[], set[int]]


@pytest.fixture
def children() -> Children:
    """Returns the child processes that the test has started: another test's service may run in this process."""

    def running() -> set[int]:
        return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}

    others = running()
    return lambda: running() - others


async def test_pixels_equal_those_of_this_process() -> None:
    async with pool(2) as decoders:
        for photo in (COLLINS, HOPPER):
            data = photo.read_bytes()
            np.testing.assert_array_equal((await decoders.decode(data)).pixels, decode(data, ImageLimits()))


async def test_pixels_stay_unchanged_while_they_are_in_use() -> None:
    """More pictures than buffers: a decoder waits until one of its buffers is free."""
    photos = [COLLINS.read_bytes(), HOPPER.read_bytes()] * 4
    async with pool() as decoders:
        first = await decoders.decode(photos[0])
        kept = first.pixels.copy()
        for photo in photos[1:]:
            await decoders.decode(photo)
        np.testing.assert_array_equal(first.pixels, kept)
        second = await decoders.decode(photos[1])
        waiting = asyncio.ensure_future(decoders.decode(photos[2]))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        del second
        assert (await waiting).pixels.shape == first.pixels.shape


async def test_errors_of_pictures_do_not_end_the_process(children: Children) -> None:
    async with pool() as decoders:
        await decoders.decode(HOPPER.read_bytes())
        before = children()
        with pytest.raises(ImageUnreadable):
            await decoders.decode(b"no picture")
        with pytest.raises(ImageTruncated):
            await decoders.decode(COLLINS.read_bytes()[:5000])
        assert children() == before


async def test_picture_that_exceeds_the_cpu_time_is_rejected_and_its_process_replaced(children: Children) -> None:
    slow = encoded(6000, 6000, "WEBP", quality=80, method=0)
    async with pool(limits=replace(LIMITS, cpu_s=0.1)) as decoders:
        before = children()
        with pytest.raises(ImageTooCostly, match=r"more than 0\.1 s of CPU time"):
            await decoders.decode(slow)
        assert (await decoders.decode(HOPPER.read_bytes())).pixels.size > 0
        assert len(children()) == 1
        assert children() != before


async def test_picture_that_exceeds_the_memory_is_rejected() -> None:
    async with pool(limits=replace(LIMITS, memory_bytes=64 * 1024**2)) as decoders:
        with pytest.raises(ImageTooCostly, match="max_decode_memory_mb"):
            await decoders.decode(encoded(5000, 5000, "JPEG", "CMYK"))
        assert (await decoders.decode(HOPPER.read_bytes())).pixels.size > 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system cannot bind processes to a core")
async def test_picture_after_one_that_exceeds_the_memory_is_decoded() -> None:
    cores, large = os.sched_getaffinity(0), encoded(5000, 5000, "JPEG", "CMYK")
    os.sched_setaffinity(0, {min(cores)})  # so that a thread whose end is awaited still has its stack for a moment
    try:
        async with pool(limits=replace(LIMITS, memory_bytes=64 * 1024**2)) as decoders:
            for _ in range(10):
                with pytest.raises(ImageTooCostly):
                    await decoders.decode(large)
                assert (await decoders.decode(HOPPER.read_bytes())).pixels.size > 0
    finally:
        os.sched_setaffinity(0, cores)


async def test_progressive_jpeg_with_many_scans_costs_nothing() -> None:
    async with pool() as decoders:
        started = time.perf_counter()
        with pytest.raises(ImageTooCostly, match=r"15\d\d scans"):
            await decoders.decode(with_many_scans(1500))
        assert time.perf_counter() - started < 10  # decoding takes 40 s


async def test_slow_pictures_do_not_delay_others() -> None:
    slow = encoded(7000, 7000, "WEBP", quality=80, method=0)
    async with pool() as decoders:
        tasks = [asyncio.ensure_future(decoders.decode(slow)) for _ in range(2)]
        await asyncio.sleep(SLOW_AFTER_S * 6)
        await decoders.decode(HOPPER.read_bytes())
        assert not all(task.done() for task in tasks)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, RegistryError) or result.pixels.shape == (7000, 7000, 3) for result in results)  # type: ignore[union-attr]
        del results, tasks
        await decoders.decode(HOPPER.read_bytes())
    assert MAX_SLOW >= 2


async def test_killed_process_is_replaced(children: Children) -> None:
    async with pool() as decoders:
        await decoders.decode(HOPPER.read_bytes())
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ImageTooCostly, match="killed"):
            await decoders.decode(HOPPER.read_bytes())
        assert (await decoders.decode(HOPPER.read_bytes())).pixels.size > 0


async def test_decoder_has_no_settings_in_its_environment(monkeypatch: pytest.MonkeyPatch, children: Children) -> None:
    monkeypatch.setenv("REGISTRY_DATABASE__URL", "postgresql+psycopg://secret@host/db")
    async with pool():
        for pid in children():
            assert not any(name.startswith("REGISTRY") for name in psutil.Process(pid).environ())


async def test_stop_leaves_no_process(children: Children) -> None:
    before = children()
    async with pool(3):
        assert len(children()) == len(before) + 3
    assert children() == before


def test_process_ends_without_a_message_if_its_parent_has_not_read_its_answer(
    capfd: pytest.CaptureFixture[str],
) -> None:
    process = DecoderProcess(LIMITS)
    assert process.is_done(60)  # it has sent that it is ready, and nobody reads it
    process._connection.close()
    assert process._process.wait(30) == 0
    assert capfd.readouterr().err == ""


async def test_stop_does_not_wait_for_pixels_in_use() -> None:
    decoders = DecoderPool(1, LIMITS)
    await decoders.start()
    kept = [await decoders.decode(HOPPER.read_bytes()) for _ in range(2)]
    waiting = asyncio.ensure_future(decoders.decode(HOPPER.read_bytes()))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(5):
        await decoders.stop()
    with pytest.raises(EngineBusy, match="shutting down"):
        await waiting
    assert kept[0].pixels.shape == kept[1].pixels.shape


async def test_a_picture_does_not_wait_without_limit_for_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding_pool, "STARVED_AFTER_S", 0.2)
    async with pool() as decoders:
        kept = [await decoders.decode(HOPPER.read_bytes()) for _ in range(2)]
        with pytest.raises(EngineBusy, match="no decoder became free"):
            await decoders.decode(HOPPER.read_bytes())
        del kept
        assert (await decoders.decode(HOPPER.read_bytes())).pixels.size > 0
