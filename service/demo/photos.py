"""The demo's people: from photos inside packages that we depend on force, or from the user's own folder."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError

Picture = npt.NDArray[np.uint8]
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".heic"}


@dataclass(frozen=True)
class Person:
    """Someone to enrol with some photos; `others` are different photos of the same person, if there are any."""

    name: str
    enrolled: list[Path]
    others: list[Path]


@dataclass(frozen=True)
class Cast:
    people: list[Person]
    strangers: list[Path]


def packaged_cast() -> Cast:
    """Two portraits and a trainer beside the pitch; the passers-by of another picture are the strangers."""
    people = [
        Person("Eileen Collins", [_in_package("skimage", "data/astronaut.png")], []),
        Person("Grace Hopper", [_in_package("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")], []),
        Person("man in zidane.jpg", [_in_package("ultralytics", "assets/zidane.jpg")], []),
    ]
    return Cast(people, [_in_package("ultralytics", "assets/bus.jpg")])


def cast_from(folder: Path) -> Cast:
    """People from `<name>/*.jpg`: the first half of each one's photos is enrolled, the rest probes.

    The last person is the stranger, who is not enrolled.

    Raises:
        StartupError: fewer than three people have pictures there.
    """
    found = {
        person.name: [path for path in sorted(person.iterdir()) if path.suffix.lower() in SUFFIXES]
        for person in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if person.is_dir()
    }
    named = [(name, photos) for name, photos in found.items() if photos]
    if len(named) < 3:
        raise StartupError(f"{folder} needs at least three folders <name>/ with pictures; {len(named)} were found")
    *enrolled, stranger = named
    people = []
    for name, photos in enrolled:
        half = (len(photos) + 1) // 2
        people.append(Person(name, photos[:half], photos[half : half + 3]))
    return Cast(people, stranger[1][:2])


def _in_package(package: str, path: str) -> Path:
    """A file of an installed package, without importing it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise StartupError(f"the demo needs the package {package}: pip install 'identity-registry[demo]'")
    file = Path(found.origin).parent / path
    if not file.exists():
        raise StartupError(f"{package} no longer ships {path}; take your own photos: make demo PHOTOS=folder")
    return file


def changes() -> dict[str, Callable[[Picture], bytes]]:
    """Ways to make another picture out of one; each returns the bytes of a JPEG."""
    return {
        "cropped": lambda picture: _jpeg(_crop(picture), 90),
        "darker": lambda picture: _jpeg(cv2.convertScaleAbs(picture, alpha=0.55, beta=0), 90),
        "mirrored": lambda picture: _jpeg(picture[:, ::-1], 90),
        "JPEG 30": lambda picture: _jpeg(picture, 30),
    }


def _crop(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    return picture[: round(height * 0.9), round(width * 0.04) : round(width * 0.97)]


def _jpeg(picture: "cv2.typing.MatLike", quality: int) -> bytes:
    return cv2.imencode(".jpg", np.ascontiguousarray(picture), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
