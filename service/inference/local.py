"""Engine in this process: decodes pictures in other processes, and recognises faces in batches on one thread."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from service.errors import RegistryError, Unavailable
from service.inference.batching import Batcher
from service.inference.decoding.pool import DecoderPool
from service.inference.engine import Detection, Observation, Picture
from service.inference.pipeline import FacePipeline, MorePixelsNeeded
from service.inference.waiting import WaitingPictures
from service.telemetry.metrics import STAGES
from service.vision.image import DecodedPicture

LARGE = 3 * 16_000_000
"""Values of a picture, three for each pixel, from which it gives way to smaller ones, as pictures of jobs do."""


@dataclass(frozen=True, slots=True)
class _Decoded:
    picture: Picture
    decoded: DecodedPicture
    known: list[Detection] | None


class LocalEngine:
    """Decodes pictures concurrently and passes them to the models as soon as they are decoded.

    A large JPEG is decoded at a lower resolution first. If a chosen face has too few pixels there, the picture is
    decoded again at its full resolution, and the faces that were detected are recognised in it.

    Args:
        max_batch: maximum number of pictures in a batch.
        max_queued: maximum number of pictures that wait or are processed.
    """

    def __init__(self, pipeline: FacePipeline, decoders: DecoderPool, max_batch: int = 8, max_queued: int = 64) -> None:
        self.model_id, self.dims = pipeline.model_id, pipeline.dims
        self._decoders, self._pipeline = decoders, pipeline
        self._waiting = WaitingPictures(max_queued)
        self._background = asyncio.Semaphore(max(1, decoders.size - 1))
        self._batcher: Batcher[_Decoded, Observation | RegistryError | MorePixelsNeeded] = Batcher(
            self._run, max_batch, lambda item: item.picture.background or item.decoded.pixels.size > LARGE
        )

    async def start(self) -> None:
        # OpenCV's threads would compete with those of the graphs for the cores.
        cv2.setNumThreads(1)
        await self._decoders.start()
        await self._batcher.start()

    async def stop(self) -> None:
        await self._batcher.stop()
        await self._decoders.stop()

    @property
    def problem(self) -> str | None:
        return self.failure

    @property
    def failure(self) -> str | None:
        return self._batcher.failure

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        with self._waiting.places(images):
            # A request with many pictures occupies as many decoders as there are, and not all places of their queue.
            turns = asyncio.Semaphore(self._decoders.size)
            tasks = [asyncio.create_task(self._observe(image, turns)) for image in images]
            try:
                return list(await asyncio.gather(*tasks))
            except BaseException:
                for task in tasks:
                    task.cancel()
                raise

    async def _observe(self, image: Picture, turns: asyncio.Semaphore) -> Observation | RegistryError:
        known: list[Detection] | None = None
        for min_longer_side in (self._pipeline.min_longer_side(image), None):
            try:
                async with turns:
                    decoded = await self._decode(image, min_longer_side)
            except Unavailable:
                raise
            except RegistryError as error:
                return error
            [result] = await self._batcher.submit([_Decoded(image, decoded, known)])
            if not isinstance(result, MorePixelsNeeded):
                return result
            known = result.detections
            # The picture occupies a buffer of its decoder, which the next pass may wait for.
            del decoded
        raise AssertionError("a picture at full resolution has all pixels")

    async def _decode(self, image: Picture, min_longer_side: int | None) -> DecodedPicture:
        with STAGES.labels("decode").time():
            if not image.background:
                return await self._decoders.decode(image.data, min_longer_side)
            async with self._background:  # leaves a decoder to the pictures of requests
                return await self._decoders.decode(image.data, min_longer_side)

    def _run(self, batch: Sequence[_Decoded]) -> list[Observation | RegistryError | MorePixelsNeeded]:
        pictures, decoded = [item.picture for item in batch], [item.decoded for item in batch]
        return self._pipeline.observe(pictures, decoded, [item.known for item in batch])
