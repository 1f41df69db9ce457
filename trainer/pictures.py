"""Reads the pictures of a folder."""

from pathlib import Path

from service.errors import RegistryError
from service.vision.image import ImageLimits, Pixels, decode

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".heic"}


def pictures_below(folder: Path) -> list[Path]:
    """Returns all pictures of a folder and its subfolders, sorted by path."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def read_picture(path: Path) -> Pixels | None:
    """Returns the decoded picture, or None if the file is damaged."""
    try:
        return decode(path.read_bytes(), ImageLimits())
    except RegistryError:
        return None


def pictures_by_identity(folder: Path) -> list[tuple[str, list[Path]]]:
    """Returns (identity, pictures) for each `<identity>/` at any depth below the folder, sorted by identity."""
    people: dict[str, list[Path]] = {}
    for path in pictures_below(folder):
        if path.parent != folder:
            people.setdefault(path.parent.name, []).append(path)
    return sorted(people.items())
