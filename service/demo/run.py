"""Runs the demo: enrols people, verifies pairs, searches for everyone, and searches for strangers."""

import base64
import json
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from service.demo.photos import Cast, Person, Picture, cast_from, changes, packaged_cast
from service.demo.progress import phase
from service.demo.report import Report, Step, annotate, write_sheet
from service.demo.server import running_registry
from service.vision.image import ImageLimits, decode

NOBODY = "nobody"
LOG_WIDTH = 120
"""Columns, where the output is not a terminal."""
NEXT = """
Next: start the registry and register a face in the browser.

    make serve    (without the repository: identity-registry serve)

Then open http://127.0.0.1:8000/docs."""


def run(photos: Path | None, output: Path) -> int:
    """Runs the demo and prints its results.

    Args:
        photos: folder of `<name>/*.jpg`; None uses photographs from installed packages.
        output: folder for the annotated picture.

    Returns:
        0 if every decision is the expected one, else 1.
    """
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    started = time.perf_counter()
    cast = packaged_cast() if photos is None else cast_from(photos)
    progress = partial(phase, console)
    with running_registry(progress) as client:
        demo = _Demo(client, Report())
        with progress(f"enrolling {len(cast.people)} people"):
            demo.enrol(cast)
        with progress("verifying two pairs of pictures"):
            demo.verify(cast)
        with progress("searching for everyone and for strangers"):
            demo.search(cast)
        with progress("drawing the faces"):
            path = demo.draw(cast, output / "detections.jpg")
    console.print()
    demo.report.show(console, "Decisions of the registry (“copy”: a changed copy of an enrolled picture)")
    console.print(f"annotated picture: {path}", soft_wrap=True)
    console.print(f"{time.perf_counter() - started:.1f} s in total; all processes of the demo have ended", style="dim")
    if demo.report.wrong:
        console.print(f"[red]{demo.report.wrong} of {len(demo.report.steps)} decisions are wrong[/]")
        return 1
    console.print(f"[green]all {len(demo.report.steps)} decisions are right[/]")
    console.print(NEXT, highlight=False)
    return 0


class _Demo:
    """Sends the requests of the demo and records the decisions in `report`."""

    def __init__(self, client: httpx.Client, report: Report) -> None:
        self._client = client
        self.report = report

    def enrol(self, cast: Cast) -> None:
        for person in cast.people:
            images = [_base64(path.read_bytes()) for path in person.enrolled]
            response, elapsed = self._post("/register", {"label": person.name, "images": images, "face": "strongest"})
            accepted = sum(image["status"] == "accepted" for image in response.get("images", []))
            decision = f"{accepted} of {len(images)} accepted" if accepted else response.get("code", "none accepted")
            names = ", ".join(path.name for path in person.enrolled[:2])
            self._record("register", names, person.name, None, None, decision, accepted > 0, elapsed)

    def verify(self, cast: Cast) -> None:
        """Verifies one pair of the same person and one pair of different people."""
        first, second = cast.people[0], cast.people[1]
        change, probe = next(self._probes(first))
        self._verify_pair(first.enrolled[0], probe, f"{first.name}, {change}", first.name, same=True)
        self._verify_pair(first.enrolled[0], second.enrolled[0].read_bytes(), second.name, first.name, same=False)

    def search(self, cast: Cast) -> None:
        for person in cast.people:
            for change, probe in self._probes(person):
                self._search(f"{person.name}, {change}", probe, "strongest", person.name)
        for stranger in cast.strangers:
            self._search(f"strangers, {stranger.name}", stranger.read_bytes(), "all", NOBODY)

    def draw(self, cast: Cast, path: Path) -> Path:
        """Searches for every face of up to eight pictures, and writes the annotated pictures to `path`."""
        photos = {path for person in cast.people for path in person.enrolled[:1]} | set(cast.strangers)
        pictures = []
        for photo in sorted(photos)[:8]:
            response, _ = self._post("/search", {"image": _base64(photo.read_bytes()), "face": "all", "top_k": 1})
            pictures.append(annotate(_load(photo), {"results": []} | response))
        return write_sheet(pictures, path)

    def _probes(self, person: Person) -> Iterator[tuple[str, bytes]]:
        """Yields other pictures of the person, or changed copies of an enrolled one if there are none."""
        if person.others:
            for path in person.others:
                yield f"photo {path.name}", path.read_bytes()
            return
        picture = _load(person.enrolled[0])
        for name, change in changes().items():
            yield f"copy, {name}", change(picture)

    def _verify_pair(self, enrolled: Path, probe: bytes, picture: str, name: str, same: bool) -> None:
        body = {"image_a": _base64(enrolled.read_bytes()), "image_b": _base64(probe)}
        response, elapsed = self._post("/verify", body)
        match, score, threshold = (response.get(key) for key in ("match", "score", "threshold"))
        decision = str(response.get("code")) if match is None else "same person" if match else "two people"
        self._record("verify", picture, name, score, threshold, decision, match is same, elapsed)

    def _search(self, picture: str, probe: bytes, face: str, expected: str) -> None:
        response, elapsed = self._post("/search", {"image": _base64(probe), "top_k": 3, "face": face})
        best = _best(response)
        nobody = NOBODY if response.get("results") else str(response.get("code"))
        decision = best["label"] if best and best["match"] else nobody
        score = best["score"] if best else None
        self._record(
            "search", picture, "all", score, response.get("threshold"), decision, decision == expected, elapsed
        )

    def _post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """Returns the response's document and the duration in milliseconds."""
        started = time.perf_counter()
        response = self._client.post(path, json=body)
        return json.loads(response.content), (time.perf_counter() - started) * 1000

    def _record(
        self, operation: str, picture: str, against: str, score: float | None, threshold: float | None,
        decision: str, correct: bool, milliseconds: float,
    ) -> None:  # fmt: skip
        self.report.steps.append(Step(operation, picture, against, score, threshold, decision, correct, milliseconds))


def _best(response: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the candidate with the highest score, over all faces of a search."""
    candidates = [candidate for result in response.get("results", []) for candidate in result["candidates"]]
    return max(candidates, key=lambda candidate: candidate["score"], default=None)


def _load(path: Path) -> Picture:
    """Returns the upright BGR pixels of a picture file."""
    return np.ascontiguousarray(decode(path.read_bytes(), ImageLimits())[..., ::-1])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
