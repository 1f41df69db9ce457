"""Reads folders of `<identity>/<photo>`, with or without `train/` and `val/` above the identities."""

from collections.abc import Iterable
from pathlib import Path

from trainer.configuration import ConfigError
from trainer.datasets.photos import PART_NAMES, LabelledPhoto, SourcePart
from trainer.pictures import pictures_below

SHOWN = 3


def read_folder(folder: Path) -> list[LabelledPhoto]:
    """Returns the photos of `<identity>/<photo>` at any depth. The name of a photo's folder is its identity.

    If the folder contains `train/` and one of `val/`, `valid/`, `validation/` and `test/`, they divide the photos.

    Raises:
        ConfigError: There is no photo, or two folders have the same name.
    """
    root = _below_wrappers(folder)
    parts = divided_folders(root)
    if parts is None:
        return _read(root, None)
    return [photo for subfolder, part in parts for photo in _read(subfolder, part)]


def _below_wrappers(folder: Path) -> Path:
    """Returns the folder below folders that contain only one folder, as archives often do."""
    while True:
        inside = [path for path in folder.iterdir() if not path.name.startswith((".", "__MACOSX"))]
        if len(inside) != 1 or not inside[0].is_dir() or not any(child.is_dir() for child in inside[0].iterdir()):
            return folder
        folder = inside[0]


def divided_folders(folder: Path) -> list[tuple[Path, SourcePart]] | None:
    """Returns `train/` and the folders that hold out, with their parts; None if there are other folders or no train."""
    children = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    parts = {path: PART_NAMES.get(path.name.lower()) for path in children}
    if len(children) < 2 or SourcePart.TRAIN not in parts.values() or None in parts.values():
        return None
    return [(path, part) for path, part in parts.items() if part is not None]


def _read(root: Path, part: SourcePart | None) -> list[LabelledPhoto]:
    paths = [path for path in pictures_below(root) if path.parent != root]
    if not paths:
        raise ConfigError(f"there is no <identity>/<photo> below {root}; sort the photos into one folder per person")
    _require_distinct_names({path.parent for path in paths}, root)
    return [LabelledPhoto(path, path.parent.name, part) for path in paths]


def _require_distinct_names(folders: Iterable[Path], root: Path) -> None:
    """Checks that no two folders have the same name, since they would become one person."""
    places: dict[str, list[Path]] = {}
    for folder in sorted(folders):
        places.setdefault(folder.name, []).append(folder)
    for name, same in places.items():
        if len(same) > 1:
            listed = ", ".join(str(path.relative_to(root)) for path in same[:SHOWN])
            raise ConfigError(
                f"the folder name {name!r} occurs {len(same)} times ({listed}{', …' if len(same) > SHOWN else ''}); "
                "the name of a photo's folder is the name of its person: put all photos of a person into one folder"
            )
