"""A load of pictures: searches, verifications, registrations and erasures, with a constant number of identities."""

import random
import threading
import time
from collections import Counter

import httpx

from tools.soak.pictures import ScaledPicture

COLLECTION = {"collection": "soak"}
IDENTITIES = 40
TIMEOUT_S = 60.0


class Load:
    """Sends requests from several threads.

    Attributes:
        outcomes: number of responses by status; `broken` for requests without a response.
        latencies: milliseconds of the requests with a response.
    """

    def __init__(self, url: str, pictures: list[ScaledPicture], seed: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self.latencies: list[float] = []
        self._url, self._pictures, self._seed = url, pictures, seed
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Creates the collection. Raises httpx.HTTPStatusError."""
        with httpx.Client(base_url=self._url, timeout=TIMEOUT_S) as client:
            client.post("/collections", json={"name": "soak", "quality": "off"}).raise_for_status()

    def capacity(self, clients: int, seconds: float) -> float:
        """Returns the requests per second of clients that send the next request as soon as they have a response."""
        before = self.outcomes.total()
        self._run(clients, seconds, None)
        return (self.outcomes.total() - before) / seconds

    def sustain(self, clients: int, seconds: float, rate: float) -> None:
        """Sends `rate` requests per second at regular times; one that no client is free to send is sent late."""
        self._run(clients, seconds, rate)

    def _run(self, clients: int, seconds: float, rate: float | None) -> None:
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=self._send_until, args=(end, number, clients, rate)) for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send_until(self, end: float, number: int, clients: int, rate: float | None) -> None:
        rng = random.Random(f"{self._seed} {number} {rate}")  # noqa: S311
        due = time.monotonic() + (number / rate if rate else 0)
        with httpx.Client(base_url=self._url, timeout=TIMEOUT_S) as client:
            while (now := time.monotonic()) < end:
                if rate is not None:
                    time.sleep(max(0.0, min(due, end) - now))
                    due = max(due + clients / rate, time.monotonic() - 1)
                started = time.monotonic()
                outcome = self._request(client, rng)
                with self._lock:
                    self.outcomes[outcome] += 1
                    self.latencies.append((time.monotonic() - started) * 1000)

    def _request(self, client: httpx.Client, rng: random.Random) -> str:
        """Sends one request and returns its status."""
        picture, name = rng.choice(self._pictures), f"person-{rng.randrange(IDENTITIES)}"
        kind = rng.choices(["search", "verify", "register", "erase"], [10, 4, 3, 2])[0]
        try:
            if kind == "search":
                body: dict[str, object] = {"image": picture.base64, "face": "strongest"}
                response = client.post("/search", params=COLLECTION, json=body)
            elif kind == "verify":
                other = rng.choice([item for item in self._pictures if item.person == picture.person])
                response = client.post("/verify", json={"image_a": picture.base64, "image_b": other.base64})
            elif kind == "register":
                name = f"{picture.person}-{name}"
                body = {"external_id": name, "image": picture.base64, "face": "strongest", "force": True}
                response = client.post("/register", params=COLLECTION, json=body)
            else:
                response = self._erase(client, f"{picture.person}-{name}")
        except httpx.TransportError:
            return "broken"
        return str(response.status_code)

    def _erase(self, client: httpx.Client, external_id: str) -> httpx.Response:
        """Erases an identity if it exists, so that the number of stored templates stays constant."""
        response = client.get("/identities", params=COLLECTION | {"external_id": external_id})
        identities = response.json().get("identities") if response.is_success else None
        return client.delete(f"/identities/{identities[0]['id']}", params=COLLECTION) if identities else response
