"""Clients that send the same request repeatedly. Each runs in its own process, so that it delays only the service."""

import contextlib
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.synchronize import Event

import httpx

JSON = {"content-type": "application/json"}


@contextlib.contextmanager
def clients(url: str, body: bytes, count: int, rate: float) -> Iterator[Counter[str]]:
    """Sends `POST /register` from `count` clients while the block runs.

    Args:
        rate: requests per second of each client; 0: the next one follows the answer to the last one.

    Yields:
        The numbers of responses by error code; it is filled at the end of the block.
    """
    outcomes = Counter[str]()
    context = multiprocessing.get_context("spawn")
    stopped, queue = context.Event(), context.Queue()
    processes = [context.Process(target=_send, args=(url, body, rate, stopped, queue)) for _ in range(count)]
    for process in processes:
        process.start()
    for _ in processes:
        queue.get()
    yield outcomes
    stopped.set()
    for _ in processes:
        outcomes.update(queue.get())
    for process in processes:
        process.join()


def _send(url: str, body: bytes, rate: float, stopped: Event, queue: "multiprocessing.Queue[Counter[str]]") -> None:
    os.nice(19)  # in reality, the computer of an attacker does not share its cores with the service
    outcomes = Counter[str]()
    with httpx.Client(base_url=url, timeout=120) as client:
        queue.put(outcomes)
        while not stopped.is_set():
            started = time.monotonic()
            response = client.post("/register", content=body, headers=JSON)
            outcomes[response.json().get("code", "accepted")] += 1
            if rate:
                stopped.wait(max(0.0, started + 1 / rate - time.monotonic()))
    queue.put(outcomes)
