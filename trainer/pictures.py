"""Pictures of a folder, those left out that can't be read."""

from pathlib import Path

from service.errors import RegistryError
from service.vision.image import ImageLimits, Pixels, decode

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".heic"}


def pictures_below(folder: Path) -> list[Path]:
    """Every picture of a folder and its subfolders, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def read_picture(path: Path) -> Pixels | None:
    """The picture, or None where a file of a large collection is damaged."""
    try:
        return decode(path.read_bytes(), ImageLimits())
    except RegistryError:
        return None


def pictures_by_identity(folder: Path) -> list[tuple[str, list[Path]]]:
    """The pictures of each `<identity>/`, wherever below the folder, in the order of names."""
    people: dict[str, list[Path]] = {}
    for path in pictures_below(folder):
        if path.parent != folder:
            people.setdefault(path.parent.name, []).append(path)
    return sorted(people.items())
