"""Reads the pictures of a folder."""

import os
from pathlib import Path

from service.errors import RegistryError
from service.vision.formats import SUFFIXES
from service.vision.image import ImageLimits, Pixels, decode


def pictures_below(folder: Path) -> list[Path]:
    """Returns all pictures of a folder and its subfolders, sorted by path.

    Symbolic links are followed; a folder that contains itself through a link is read once. A link to a file that does
    not exist is returned, so that the caller reports it. Hidden files and folders are omitted.
    """
    pictures, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        pictures += [
            Path(parent, name) for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]
    return sorted(pictures)


def read_picture(path: Path) -> Pixels | None:
    """Returns the decoded picture, or None if the file is damaged or does not exist."""
    try:
        return decode(path.read_bytes(), ImageLimits())
    except (RegistryError, OSError):
        return None


def pictures_by_identity(folder: Path) -> list[tuple[str, list[Path]]]:
    """Returns (identity, pictures) for each `<identity>/` at any depth below the folder, sorted by identity."""
    people: dict[str, list[Path]] = {}
    for path in pictures_below(folder):
        if path.parent != folder:
            people.setdefault(path.parent.name, []).append(path)
    return sorted(people.items())
