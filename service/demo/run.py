"""The demo: enrol people, verify them, find them, and do not find a stranger."""

import base64
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from service.demo.photos import Cast, Person, Picture, cast_from, changes, packaged_cast
from service.demo.report import Report, Step, annotate, write_sheet
from service.demo.server import running_registry
from service.vision.image import ImageLimits, decode

NOBODY = "nobody"
LOG_WIDTH = 120
"""Columns where the output is no terminal."""


def run(photos: Path | None, output: Path) -> int:
    """0 if every decision was right, else 1."""
    console = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
    started = time.perf_counter()
    cast = packaged_cast() if photos is None else cast_from(photos)
    console.print("starting PostgreSQL with pgvector and the API …", style="dim")
    with running_registry() as client:
        console.print(f"ready after {time.perf_counter() - started:.1f} s\n", style="dim")
        demo = _Demo(client, Report())
        demo.enrol(cast)
        demo.verify(cast)
        demo.search(cast)
        path = demo.picture(cast, output / "found.jpg")
    demo.report.show(console, "What the registry decided (“copy” is a changed copy of an enrolled picture)")
    console.print(f"annotated picture: {path}")
    console.print(f"{time.perf_counter() - started:.1f} s; everything that was started has stopped", style="dim")
    if demo.report.wrong:
        console.print(f"[red]{demo.report.wrong} of {len(demo.report.steps)} decisions are wrong[/]")
        return 1
    console.print(f"[green]all {len(demo.report.steps)} decisions are right[/]")
    return 0


class _Demo:
    def __init__(self, client: httpx.Client, report: Report) -> None:
        self._client = client
        self.report = report

    def enrol(self, cast: Cast) -> None:
        for person in cast.people:
            images = [_base64(path.read_bytes()) for path in person.enrolled]
            answer, elapsed = self._post("/register", {"label": person.name, "images": images, "face": "strongest"})
            accepted = sum(image["status"] == "accepted" for image in answer.get("images", []))
            decision = f"{accepted} of {len(images)} accepted" if accepted else answer.get("code", "nothing accepted")
            names = ", ".join(path.name for path in person.enrolled[:2])
            self._note("register", names, person.name, None, None, decision, accepted > 0, elapsed)

    def verify(self, cast: Cast) -> None:
        """One genuine and one impostor pair."""
        first, second = cast.people[0], cast.people[1]
        what, probe = next(self._probes(first))
        self._verify_pair(first.enrolled[0], probe, f"{first.name}, {what}", first.name, same=True)
        self._verify_pair(first.enrolled[0], second.enrolled[0].read_bytes(), second.name, first.name, same=False)

    def search(self, cast: Cast) -> None:
        for person in cast.people:
            for what, probe in self._probes(person):
                self._search(f"{person.name}, {what}", probe, "strongest", person.name)
        for stranger in cast.strangers:
            self._search(f"strangers, {stranger.name}", stranger.read_bytes(), "all", NOBODY)

    def picture(self, cast: Cast, path: Path) -> Path:
        photos = {path for person in cast.people for path in person.enrolled[:1]} | set(cast.strangers)
        pictures = []
        for photo in sorted(photos)[:8]:
            answer, _ = self._post("/search", {"image": _base64(photo.read_bytes()), "face": "all", "top_k": 1})
            pictures.append(annotate(_load(photo), {"results": []} | answer))
        return write_sheet(pictures, path)

    def _probes(self, person: Person) -> Iterator[tuple[str, bytes]]:
        """Different photos where there are some, else changed copies."""
        if person.others:
            for path in person.others:
                yield f"photo {path.name}", path.read_bytes()
            return
        picture = _load(person.enrolled[0])
        for name, change in changes().items():
            yield f"copy, {name}", change(picture)

    def _verify_pair(self, enrolled: Path, probe: bytes, picture: str, name: str, same: bool) -> None:
        body = {"image_a": _base64(enrolled.read_bytes()), "image_b": _base64(probe)}
        answer, elapsed = self._post("/verify", body)
        match = answer.get("match")
        decision = str(answer.get("code")) if match is None else "same person" if match else "two people"
        self._note(
            "verify", picture, name, answer.get("score"), answer.get("threshold"), decision, match is same, elapsed
        )

    def _search(self, picture: str, probe: bytes, face: str, expected: str) -> None:
        answer, elapsed = self._post("/search", {"image": _base64(probe), "top_k": 3, "face": face})
        best = _best(answer)
        found = (
            best["label"] if best and best["match"] else NOBODY if answer.get("results") else str(answer.get("code"))
        )
        score = best["score"] if best else None
        self._note("search", picture, "all", score, answer.get("threshold"), found, found == expected, elapsed)

    def _post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        started = time.perf_counter()
        response = self._client.post(path, json=body)
        return json.loads(response.content), (time.perf_counter() - started) * 1000

    def _note(
        self, operation: str, picture: str, against: str, score: float | None, threshold: float | None,
        decision: str, right: bool, milliseconds: float,
    ) -> None:  # fmt: skip
        self.report.steps.append(Step(operation, picture, against, score, threshold, decision, right, milliseconds))


def _best(answer: dict[str, Any]) -> dict[str, Any] | None:
    candidates = [candidate for result in answer.get("results", []) for candidate in result["candidates"]]
    return max(candidates, key=lambda candidate: candidate["score"], default=None)


def _load(path: Path) -> Picture:
    """BGR, upright."""
    return np.ascontiguousarray(decode(path.read_bytes(), ImageLimits())[..., ::-1])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
