"""The demo: enrol people, verify them, find them, and do not find a stranger."""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from rich.console import Console

from service.demo.photos import Cast, Person, Photo, Picture, cast_from, changes, packaged_cast
from service.demo.report import Report, Step, annotate, write_sheet
from service.demo.server import running_registry
from service.vision.image import ImageLimits, decode


def run(photos: Path | None, output: Path) -> int:
    """0 if every decision was right, else 1."""
    console = Console()
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
            boxes = [self._box(photo) for photo in person.enrolled]
            images = [_base64(photo.path.read_bytes()) for photo in person.enrolled]
            choice: dict[str, Any] = {"face": "strongest"}
            if all(box is not None for box in boxes):
                choice = {"face": "box", "boxes": boxes}
            answer, elapsed = self._post("/register", {"label": person.name, "images": images, **choice})
            accepted = sum(image["status"] == "accepted" for image in answer.get("images", []))
            decision = f"{accepted} of {len(images)} accepted" if accepted else answer.get("code", "nothing accepted")
            name = ", ".join(sorted({photo.path.name for photo in person.enrolled[:2]}))
            self._note("register", name, person.name, None, None, decision, accepted > 0, elapsed)

    def verify(self, cast: Cast) -> None:
        """One genuine and one impostor pair."""
        first, second = cast.people[0], cast.people[1]
        what, probe = next(self._probes(first))
        self._verify_pair(first.enrolled[0], probe, f"{first.name}, {what}", first.name, same=True)
        other = second.enrolled[0].path.read_bytes()
        self._verify_pair(first.enrolled[0], other, second.name, first.name, same=False)

    def search(self, cast: Cast) -> None:
        for person in cast.people:
            for what, probe in self._probes(person):
                box = self._mirrored_box(person.enrolled[0], what, probe)
                answer, elapsed = self._search(probe, box)
                best = _best(answer)
                found = best["label"] if best and best["match"] else "nobody"
                self._note(
                    "search", f"{person.name}, {what}", "all", best and best["score"], answer.get("threshold"),
                    found, found == person.name, elapsed,
                )  # fmt: skip
        for stranger in cast.strangers:
            answer, elapsed = self._search(stranger.path.read_bytes(), self._box(stranger))
            best = _best(answer)
            found = best["label"] if best and best["match"] else "nobody"
            right = found == "nobody" and bool(answer.get("results"))
            self._note(
                "search", f"a stranger, {stranger.path.name}", "all", best and best["score"], answer.get("threshold"),
                found, right, elapsed,
            )  # fmt: skip

    def picture(self, cast: Cast, path: Path) -> Path:
        photos = {photo.path for person in cast.people for photo in person.enrolled[:1]}
        photos |= {photo.path for photo in cast.strangers}
        pictures = []
        for photo in sorted(photos)[:8]:
            answer, _ = self._post("/search", {"image": _base64(photo.read_bytes()), "face": "all", "top_k": 1})
            if answer.get("results"):
                pictures.append(annotate(_load(photo), answer))
        return write_sheet(pictures, path)

    def _probes(self, person: Person) -> Iterator[tuple[str, bytes]]:
        """Different photos where there are some, else changed copies."""
        if person.others:
            for photo in person.others:
                yield f"photo {photo.path.name}", photo.path.read_bytes()
            return
        picture = _load(person.enrolled[0].path)
        for name, change in changes().items():
            yield f"copy, {name}", change(picture)

    def _verify_pair(self, enrolled: Photo, probe: bytes, picture: str, name: str, same: bool) -> None:
        body = {"image_a": _base64(enrolled.path.read_bytes()), "image_b": _base64(probe)}
        answer, elapsed = self._post("/verify", body)
        match = answer.get("match")
        decision = {True: "same person", False: "two people"}.get(match, answer.get("code", "?"))  # type: ignore[arg-type]
        self._note(
            "verify", picture, name, answer.get("score"), answer.get("threshold"), decision, match is same, elapsed
        )

    def _search(self, probe: bytes, box: list[float] | None) -> tuple[dict[str, Any], float]:
        choice: dict[str, Any] = {"face": "strongest"} if box is None else {"face": "box", "box": box}
        return self._post("/search", {"image": _base64(probe), "top_k": 3, **choice})

    def _box(self, photo: Photo) -> list[float] | None:
        """Where the meant face is, in a picture of several people."""
        if photo.face_from_left is None:
            return None
        return self._nth_box(photo.path.read_bytes(), photo.face_from_left)

    def _mirrored_box(self, photo: Photo, what: str, probe: bytes) -> list[float] | None:
        """In a mirrored copy the first from the left is the first from the right."""
        if photo.face_from_left is None:
            return None
        return self._nth_box(probe, 1 - photo.face_from_left if "mirrored" in what else photo.face_from_left)

    def _nth_box(self, data: bytes, position: int) -> list[float] | None:
        answer, _ = self._post("/search", {"image": _base64(data), "face": "all", "top_k": 1})
        largest = sorted((result["face"]["box"] for result in answer.get("results", [])), key=_area)[-2:]
        boxes: list[list[float]] = sorted(largest)
        return boxes[position] if position < len(boxes) else None

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


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
