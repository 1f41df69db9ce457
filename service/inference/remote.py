"""Engine that sends pictures to worker processes over HTTP."""

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
from service.inference.engine import Observation, Picture
from service.inference.wire import MEDIA_TYPE, MODELS_HEADER, OBSERVE_PATH, pack_images, unpack_results
from service.inference.workers import Worker, Workers
from service.telemetry.metrics import REFUSED, WORKERS_LOST

CONNECT_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 30.0
"""Shorter than the worker's keep-alive, so that a worker never closes a connection that is about to be used."""
WAIT_FOR_WORKER_S = 2.0
"""Time that a request waits for a worker to become ready before it fails."""
MAX_FAILED_WORKERS = 2
"""A request fails once this many workers have failed on it: its pictures may be the cause and crash all workers."""
MAX_BYTES_IN_FLIGHT = 128 * 1024**2
"""Limit of picture bytes that are being sent. A larger request is sent if it is the only one."""
MAX_RESPONSE_BYTES, CHUNK_BYTES = 64 * 1024**2, 256 * 1024
log = logging.getLogger(__name__)

Results = list[Observation | RegistryError]


class RemoteEngine:
    """Sends the pictures of a request to one worker, and to another worker if the first one fails.

    A repeated attempt is safe, because workers store nothing.

    Args:
        dims: dimension of the embeddings by model id, the main model first.
        models: models that a worker must have loaded, as `models_key` in `service.runtime.engines` formats them.
        token: shared secret of API and workers; None: no authentication.
        timeout_s: time limit of one worker's response in seconds.
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
        self._incompatible: dict[str, str] = {}
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
        """Reason why no picture can be processed at present, or None. Clients see it, so it names no addresses."""
        if self._workers.ready:
            return None
        if self._incompatible:
            return (
                "no worker is compatible: each has another model, precision or token than this service; "
                "the service's log names the differences"
            )
        return "no worker can be reached"

    @property
    def failure(self) -> str | None:
        return self._workers.failure

    async def observe(self, images: Sequence[Picture]) -> Results:
        if not images:
            return []
        with self._in_flight(images):
            return await self._observe(
                pack_images(images), [self.dims[image.model_id or self.model_id] for image in images]
            )

    @contextlib.contextmanager
    def _in_flight(self, images: Sequence[Picture]) -> Iterator[None]:
        """Counts the bytes of the pictures. Raises EngineBusy above `MAX_BYTES_IN_FLIGHT`."""
        size = sum(len(image.data) for image in images)
        if self._bytes and self._bytes + size > MAX_BYTES_IN_FLIGHT:
            REFUSED.inc(len(images))
            raise EngineBusy("the workers are receiving too many pictures; try again later")
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size

    async def _observe(self, body: bytes, dims: Sequence[int]) -> Results:
        deadline = time.monotonic() + WAIT_FOR_WORKER_S
        failed = 0
        while failed < MAX_FAILED_WORKERS:
            outcome = await self._try_workers(body, dims, MAX_FAILED_WORKERS - failed)
            if not isinstance(outcome, int):
                return outcome
            failed += outcome
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._workers.wait()
            except TimeoutError:
                break
        error = EngineUnavailable(self.problem or f"{failed} workers failed one after the other on this request")
        if failed:
            error.extensions["workers_lost"] = failed
        raise error

    async def _try_workers(self, body: bytes, dims: Sequence[int], max_failed: int) -> Results | int:
        """Returns the first worker's response, or the number of workers that failed after they received the pictures.

        Raises:
            EngineBusy: the queues of all ready workers are full.
            InternalError: workers responded with an internal error.
            BodyTooLarge: the pictures exceed the size that workers accept.
        """
        tried: set[Worker] = set()
        refusal: RegistryError | None = None
        failed = 0
        while failed < max_failed and (worker := self._workers.choose(tried)) is not None:
            tried.add(worker)
            try:
                return await self._post(worker, body, dims)
            except BodyTooLarge:
                raise
            except EngineBusy as error:
                refusal = refusal or error
                continue
            except InternalError as error:  # The pictures or the worker may be the cause: another worker decides.
                log.error("worker %s failed: %s", worker.address, error.detail)
                refusal, failed = error, failed + 1
            except RegistryError as error:
                self._mark_incompatible(worker, error)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                failed += not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
            self._workers.mark_failed(worker)
            WORKERS_LOST.inc()
        if refusal is not None:
            raise refusal
        return failed

    async def _post(self, worker: Worker, body: bytes, dims: Sequence[int]) -> Results:
        """Raises aiohttp.ClientError, TimeoutError, ValueError or the RegistryError of the worker's response."""
        worker.in_flight += len(dims)
        worker.pictures_sent += len(dims)
        try:
            # aiohttp sends a file in pieces, so that a large body does not block the event loop.
            data = io.BytesIO(body)
            url = f"{worker.address}{OBSERVE_PATH}"
            async with self._session.post(url, data=data, **_request_options(worker)) as response:
                content = await _content(response)
        finally:
            worker.in_flight -= len(dims)
        if not response.ok:
            raise _error(response.status, content)
        results = unpack_results(content)
        _require_dims(results, dims)
        return results

    async def _is_ready(self, worker: Worker) -> bool:
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        url = f"{worker.address}/readyz"
        try:
            async with self._session.get(url, timeout=timeout, **_request_options(worker)) as response:
                content = await _content(response)
            if not response.ok:
                self._mark_incompatible(worker, _error(response.status, content))
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self._incompatible.pop(worker.address, None)
            return False
        if response.ok:
            self._incompatible.pop(worker.address, None)
        return response.ok

    def _mark_incompatible(self, worker: Worker, error: RegistryError) -> None:
        """Records that a worker refuses this service, and logs it once per reason."""
        if self._incompatible.get(worker.address) != error.detail:
            log.warning("worker %s is not compatible: %s", worker.address, error.detail)
        self._incompatible[worker.address] = error.detail


def _require_dims(results: Results, dims: Sequence[int]) -> None:
    """Raises ValueError if the number of results or the dimension of an embedding is not the expected one."""
    faces = [
        (face, dim)
        for result, dim in zip(results, dims, strict=True)
        if isinstance(result, Observation)
        for face in result.faces
    ]
    if any(face.embedding.shape != (dim,) for face, dim in faces):
        raise ValueError("the worker's embeddings have another dimension than the model's")


def _request_options(worker: Worker) -> dict[str, Any]:
    """Returns options of a request to an IP address with the Host header and the certificate of the worker's name."""
    name = {"server_hostname": worker.url.hostname} if worker.url.scheme == "https" else {}
    return {"headers": {"host": worker.url.netloc}, "allow_redirects": False, **name}


def _error(status: int, content: bytes) -> RegistryError:
    """Returns the error of a worker's problem document (RFC 9457). Raises ValueError for any other content."""
    try:
        document = json.loads(content)
    except RecursionError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        raise ValueError(f"the response with status {status} has no problem document")
    detail = str(document.get("detail", ""))
    kind = error_class(document["code"])
    if kind is InternalError:
        detail += f" (from a worker; its request id is {document.get('request_id')})"
    pointer = document.get("pointer")
    return kind(detail, pointer=pointer if isinstance(pointer, str) else None)


async def _content(response: aiohttp.ClientResponse) -> bytes:
    """Returns the body of a response. Raises ValueError above `MAX_RESPONSE_BYTES`."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        content += chunk
        if len(content) > MAX_RESPONSE_BYTES:
            raise ValueError(f"the worker's response has more than {MAX_RESPONSE_BYTES:,} bytes")
    return bytes(content)
