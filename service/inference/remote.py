"""The engine in other processes: each request's pictures go to one worker, and to another one if that fails."""

import asyncio
import contextlib
import io
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import aiohttp

from service.errors import BodyTooLarge, EngineBusy, EngineUnavailable, InternalError, RegistryError, error_class
from service.inference.engine import Picture, Observation
from service.inference.wire import MEDIA_TYPE, MODELS_HEADER, OBSERVE_PATH, pack_images, unpack_results
from service.inference.workers import Worker, Workers
from service.telemetry.metrics import REFUSED, WORKERS_LOST

CONNECT_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 30.0
"""Less than the worker's own, so that it never closes a connection that we are about to use."""
PATIENCE_S = 2.0
"""How long a request waits for a worker to come (back) before it is refused."""
MOST_LOST = 2
"""Workers that one request may see die: a picture that brings down two would bring down the rest as well."""
MOST_BYTES = 128 * 1024**2
"""Pictures that are on their way at once; a single larger request is still let through by itself."""
log = logging.getLogger(__name__)

Results = list[Observation | RegistryError]


class RemoteEngine:
    """Observes pictures through workers over HTTP.

    Observing changes nothing, so that a request which a worker did not answer is sent to another one.

    Args:
        dims: of the models' embeddings, the main one first.
        models: what the worker must run, as `models_key` writes it.
        timeout_s: for one worker's answer.
    """

    def __init__(
        self, dims: Mapping[str, int], models: str, urls: Sequence[str], token: str | None, timeout_s: float
    ) -> None:
        self.model_id, self.dims = next(iter(dims)), dims
        self._headers = {"content-type": MEDIA_TYPE, MODELS_HEADER: models}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession
        self._workers = Workers(urls, self._is_ready)
        self._misfits: dict[str, str] = {}
        self._bytes = 0

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=self._timeout)
        await self._workers.start()

    async def stop(self) -> None:
        await self._workers.stop()
        await self._session.close()

    @property
    def problem(self) -> str | None:
        """Why no picture can be observed just now, or None. Who the workers are is for the log only."""
        if self._workers.ready:
            return None
        if self._misfits:
            return "no worker fits: each has another model, precision or token than this service; its log says which"
        return "no worker can be reached"

    async def observe(self, images: Sequence[Picture]) -> Results:
        if not images:
            return []
        with self._room_for(images):
            return await self._observe(
                pack_images(images), [self.dims[image.model_id or self.model_id] for image in images]
            )

    @contextlib.contextmanager
    def _room_for(self, images: Sequence[Picture]) -> Iterator[None]:
        """Bounds the memory that waiting requests hold. Raises EngineBusy."""
        size = sum(len(image.data) for image in images)
        if self._bytes and self._bytes + size > MOST_BYTES:
            REFUSED.inc(len(images))
            raise EngineBusy("too many pictures are on their way to the workers; try again in a moment")
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size

    async def _observe(self, body: bytes, dims: Sequence[int]) -> Results:
        deadline = time.monotonic() + PATIENCE_S
        lost = 0
        while lost < MOST_LOST:
            outcome = await self._ask_around(body, dims, MOST_LOST - lost)
            if not isinstance(outcome, int):
                return outcome
            lost += outcome
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._workers.wait()
            except TimeoutError:
                break
        error = EngineUnavailable(self.problem or f"{lost} workers broke off one after the other")
        if lost:
            error.extensions["workers_lost"] = lost
        raise error

    async def _ask_around(self, body: bytes, dims: Sequence[int], most_lost: int) -> Results | int:
        """The answer of the first worker that has one, else how many broke off while they had the pictures.

        Raises:
            EngineBusy: some are there, and none has room.
            InternalError: workers fail on these pictures.
        """
        tried: set[Worker] = set()
        refusal: RegistryError | None = None
        lost = 0
        while lost < most_lost and (worker := self._workers.choose(tried)) is not None:
            tried.add(worker)
            try:
                return await self._ask(worker, body, dims)
            except BodyTooLarge:
                raise
            except EngineBusy as error:
                refusal = refusal or error
                continue
            except InternalError as error:  # of the pictures, or of the worker: another one can tell
                log.error("worker %s failed: %s", worker.address, error.detail)
                refusal, lost = error, lost + 1
            except RegistryError as error:
                self._is_misfit(worker, error)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                lost += not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            self._workers.lost(worker)
            WORKERS_LOST.inc()
        if refusal is not None:
            raise refusal
        return lost

    async def _ask(self, worker: Worker, body: bytes, dims: Sequence[int]) -> Results:
        worker.in_flight += len(dims)
        worker.asked += len(dims)
        try:
            # As a file: aiohttp sends that in pieces and lets others run between them.
            data = io.BytesIO(body)
            async with self._session.post(f"{worker.address}{OBSERVE_PATH}", data=data, **_named(worker)) as answer:
                content = await answer.read()
        finally:
            worker.in_flight -= len(dims)
        if not answer.ok:
            raise _error(answer.status, content)
        results = unpack_results(content)
        _require_ours(results, dims)
        return results

    async def _is_ready(self, worker: Worker) -> bool:
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with self._session.get(f"{worker.address}/readyz", timeout=timeout, **_named(worker)) as answer:
                content = await answer.read()
            if not answer.ok:
                self._is_misfit(worker, _error(answer.status, content))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self._misfits.pop(worker.address, None)
            return False
        if answer.ok:
            self._misfits.pop(worker.address, None)
        return answer.ok

    def _is_misfit(self, worker: Worker, error: RegistryError) -> None:
        """A worker of another release or installation than we are; told once, not at every probe."""
        if self._misfits.get(worker.address) != error.detail:
            log.warning("worker %s does not fit: %s", worker.address, error.detail)
        self._misfits[worker.address] = error.detail


def _require_ours(results: Results, dims: Sequence[int]) -> None:
    """Raises ValueError where the answer is not to pictures that were to be embedded in these dimensions."""
    faces = [
        (face, dim)
        for result, dim in zip(results, dims, strict=True)
        if isinstance(result, Observation)
        for face in result.faces
    ]
    if any(face.embedding.shape != (dim,) for face, dim in faces):
        raise ValueError("not an answer to these pictures")


def _named(worker: Worker) -> dict[str, Any]:
    """We connect to an address; the Host header and the certificate are those of the name."""
    name = {"server_hostname": worker.url.hostname} if worker.url.scheme == "https" else {}
    return {"headers": {"host": worker.url.netloc}, "allow_redirects": False, **name}


def _error(status: int, content: bytes) -> RegistryError:
    """A worker's problem document as the error that it stands for. Raises ValueError for anything else."""
    document = json.loads(content)
    if not isinstance(document, dict) or "code" not in document:
        raise ValueError(f"not a worker's answer: status {status}")
    detail = str(document.get("detail", ""))
    kind = error_class(document["code"])
    if kind is InternalError:
        detail += f" (a worker's, as request {document.get('request_id')})"
    return kind(detail, pointer=document.get("pointer"))
