"""The engine in other processes: each request's pictures go to one worker, and to another one if that fails."""

import json
import time
from collections.abc import Sequence
from typing import Any

import aiohttp

from service.errors import BodyTooLarge, EngineBusy, EngineUnavailable, InternalError, RegistryError, error_class
from service.inference.engine import ImageInput, Observation
from service.inference.wire import MEDIA_TYPE, MODEL_HEADER, OBSERVE_PATH, pack_images, unpack_results
from service.inference.workers import Worker, Workers
from service.metrics import WORKERS_LOST

CONNECT_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 30.0
"""Less than the worker's own, so that it never closes a connection that we are about to use."""
PATIENCE_S = 2.0
"""How long a request waits for a worker to come (back) before it is refused."""
MOST_LOST = 2
"""Workers that one request may see die: a picture that brings down two would bring down the rest as well."""
ABOUT_THE_REQUEST = (BodyTooLarge, InternalError)
"""What any worker would answer. Everything else but EngineBusy means that this one doesn't fit to us."""


class RemoteEngine:
    """Observes pictures through workers over HTTP.

    Observing changes nothing, so that a request which a worker did not answer is sent to another one.

    Args:
        model: what the worker must run, as `model_key` writes it.
        timeout_s: for one worker's answer.
    """

    def __init__(
        self, model_id: str, dim: int, model: str, urls: Sequence[str], token: str | None, timeout_s: float
    ) -> None:
        self.model_id, self.dim = model_id, dim
        self._headers = {"content-type": MEDIA_TYPE, MODEL_HEADER: model}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession
        self._urls = urls
        self._workers = Workers(urls, self._is_ready)
        self._refusal: str | None = None

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=self._timeout)
        await self._workers.start()

    async def stop(self) -> None:
        await self._workers.stop()
        await self._session.close()

    @property
    def problem(self) -> str | None:
        """Why no picture can be observed just now, or None."""
        if self._workers.ready:
            return None
        return self._refusal or f"no worker can be reached at {', '.join(self._urls)}"

    async def observe(self, images: Sequence[ImageInput]) -> list[Observation | RegistryError]:
        if not images:
            return []
        body, deadline = pack_images(images), time.monotonic() + PATIENCE_S
        lost = 0
        while lost < MOST_LOST:
            outcome = await self._ask_around(body, len(images), MOST_LOST - lost)
            if not isinstance(outcome, int):
                return outcome
            lost += outcome
            if time.monotonic() > deadline:
                break
            await self._workers.wait()
        raise EngineUnavailable(self.problem or f"{lost} workers broke off one after the other")

    async def _ask_around(
        self, body: bytes, pictures: int, most_lost: int
    ) -> "list[Observation | RegistryError] | int":
        """The answer of the first worker that has one, else how many broke off while they had the pictures.

        Raises:
            EngineBusy: some are there, and none has room.
        """
        tried: set[Worker] = set()
        busy: EngineBusy | None = None
        lost = 0
        while lost < most_lost and (worker := self._workers.choose(tried)) is not None:
            tried.add(worker)
            try:
                return await self._ask(worker, body, pictures)
            except EngineBusy as error:
                busy = error
                continue
            except ABOUT_THE_REQUEST:
                raise
            except RegistryError as error:
                self._refusal = f"{worker.address}: {error.detail}"
                self._workers.lost(worker)
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                lost += not isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
                self._workers.lost(worker)
            WORKERS_LOST.inc()
        if busy is not None:
            raise busy
        return lost

    async def _ask(self, worker: Worker, body: bytes, pictures: int) -> list[Observation | RegistryError]:
        worker.in_flight += pictures
        worker.asked += pictures
        try:
            async with self._session.post(f"{worker.address}{OBSERVE_PATH}", data=body, **_named(worker)) as answer:
                content = await answer.read()
        finally:
            worker.in_flight -= pictures
        if answer.ok:
            return unpack_results(content)
        raise _error(answer.status, content)

    async def _is_ready(self, worker: Worker) -> bool:
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        try:
            async with self._session.get(f"{worker.address}/readyz", timeout=timeout, **_named(worker)) as answer:
                content = await answer.read()
            self._refusal = None if answer.ok else f"{worker.address}: {_error(answer.status, content).detail}"
        except (aiohttp.ClientError, TimeoutError, ValueError):
            self._refusal = None
            return False
        return answer.ok


def _named(worker: Worker) -> dict[str, Any]:
    """We connect to an address; the Host header and the certificate are those of the name."""
    name = {"server_hostname": worker.host.rpartition(":")[0] or worker.host} if worker.is_encrypted else {}
    return {"headers": {"host": worker.host}, "allow_redirects": False, **name}


def _error(status: int, content: bytes) -> RegistryError:
    """A worker's problem document as the error that it stands for. Raises ValueError for anything else."""
    document = json.loads(content)
    if not isinstance(document, dict) or "code" not in document:
        raise ValueError(f"not a worker's answer: status {status}")
    return error_class(document["code"])(str(document.get("detail", "")), pointer=document.get("pointer"))
