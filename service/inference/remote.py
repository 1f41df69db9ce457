"""The engine in other processes: each request's pictures go to one worker, and to another one if that fails."""

import time
from collections.abc import Sequence

import httpx

from service.errors import BodyTooLarge, EngineBusy, EngineUnavailable, InternalError, RegistryError, error_class
from service.inference.engine import ImageInput, Observation
from service.inference.wire import MEDIA_TYPE, MODEL_HEADER, OBSERVE_PATH, pack_images, unpack_results
from service.inference.workers import Worker, Workers
from service.metrics import WORKERS_LOST

CONNECT_TIMEOUT_S = 1.0
PROBE_TIMEOUT_S = 2.0
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
        headers = {"content-type": MEDIA_TYPE, MODEL_HEADER: model}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,  # a proxy of the environment is none of the cluster's business
        )
        self._urls = urls
        self._workers = Workers(urls, self._is_ready)
        self._refusal: str | None = None

    async def start(self) -> None:
        await self._workers.start()

    async def stop(self) -> None:
        await self._workers.stop()
        await self._client.aclose()

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
            except (httpx.TransportError, ValueError) as error:
                lost += not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                self._workers.lost(worker)
            WORKERS_LOST.inc()
        if busy is not None:
            raise busy
        return lost

    async def _ask(self, worker: Worker, body: bytes, pictures: int) -> list[Observation | RegistryError]:
        worker.in_flight += pictures
        worker.asked += pictures
        try:
            answer = await self._client.post(
                f"{worker.address}{OBSERVE_PATH}", content=body, headers={"host": worker.host}, extensions=_tls(worker)
            )
        finally:
            worker.in_flight -= pictures
        if answer.is_success:
            return unpack_results(answer.content)
        raise _error(answer)

    async def _is_ready(self, worker: Worker) -> bool:
        try:
            answer = await self._client.get(
                f"{worker.address}/readyz",
                headers={"host": worker.host},
                extensions=_tls(worker),
                timeout=PROBE_TIMEOUT_S,
            )
            self._refusal = None if answer.is_success else f"{worker.address}: {_error(answer).detail}"
        except (httpx.TransportError, ValueError):
            self._refusal = None
            return False
        return answer.is_success


def _tls(worker: Worker) -> dict[str, str]:
    """We connect to an address, and the certificate is that of the name."""
    return {"sni_hostname": worker.host.rpartition(":")[0] or worker.host}


def _error(answer: httpx.Response) -> RegistryError:
    """A worker's problem document as the error that it stands for. Raises ValueError for anything else."""
    document = answer.json()
    if not isinstance(document, dict) or "code" not in document:
        raise ValueError(f"not a worker's answer: status {answer.status_code}")
    return error_class(document["code"])(str(document.get("detail", "")), pointer=document.get("pointer"))
