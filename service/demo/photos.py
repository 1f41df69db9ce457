"""Collects the pictures of the demo: photographs from installed packages, or the user's own folder."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.vision.formats import SUFFIXES

Picture = npt.NDArray[np.uint8]
"""(height, width, 3) BGR."""

MINIMUM_PEOPLE = 3
PICTURES = Path(sys.prefix) / "share" / "pictures"
"""Packages that `make demo` installs for their pictures only; Python cannot import them from here."""


@dataclass(frozen=True)
class Person:
    """A person to enrol.

    Attributes:
        enrolled: pictures to register.
        others: different pictures of the same person, to verify and search with; may be empty.
    """

    name: str
    enrolled: list[Path]
    others: list[Path]


@dataclass(frozen=True)
class Cast:
    """The people of a demo, and pictures of people who are not enrolled."""

    people: list[Person]
    strangers: list[Path]


def packaged_cast() -> Cast:
    """Returns three people and a picture of strangers. All are photographs that installed packages contain.

    Raises:
        StartupError: a package or its picture is missing.
    """
    people = [
        Person("Eileen Collins", [_in_package("skimage", "scikit-image", "data/astronaut.png")], []),
        Person("Grace Hopper", [_in_package("matplotlib", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg")], []),
        Person("man in zidane.jpg", [_in_package("ultralytics", "ultralytics", "assets/zidane.jpg")], []),
    ]
    return Cast(people, [_in_package("ultralytics", "ultralytics", "assets/bus.jpg")])


def cast_from(folder: Path) -> Cast:
    """Returns the people of `<folder>/<name>/*.jpg`.

    The first half of each person's pictures is enrolled; up to three of the others are probes. The last person in
    alphabetical order is the stranger and is not enrolled.

    Raises:
        StartupError: fewer than three people have pictures in the folder.
    """
    pictures = {
        person.name: [path for path in sorted(person.iterdir()) if path.suffix.lower() in SUFFIXES]
        for person in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if person.is_dir()
    }
    named = [(name, paths) for name, paths in pictures.items() if paths]
    if len(named) < MINIMUM_PEOPLE:
        raise StartupError(
            f"{folder} contains pictures of {len(named)} people; the demo needs at least {MINIMUM_PEOPLE} folders "
            "<name>/ with pictures."
        )
    *enrolled, stranger = named
    people = []
    for name, paths in enrolled:
        half = (len(paths) + 1) // 2
        people.append(Person(name, paths[:half], paths[half : half + 3]))
    return Cast(people, stranger[1][:2])


def _in_package(module: str, distribution: str, path: str) -> Path:
    """Returns a file of an installed package without importing the package."""
    spec = importlib.util.find_spec(module)
    folders = [PICTURES / module, *([Path(spec.origin).parent] if spec and spec.origin else [])]
    file = next((folder / path for folder in folders if (folder / path).exists()), None)
    if file is None:
        raise StartupError(
            f"The demo needs {path} of the package {distribution}, which is not installed. Run `make demo`, which "
            "installs it, or use your own pictures: --photos folder."
        )
    return file


def changes() -> dict[str, Callable[[Picture], bytes]]:
    """Returns named functions that turn a picture into a changed copy, as the bytes of a JPEG file."""
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
