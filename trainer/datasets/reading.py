"""Reads the labelled photos of a data set, whatever its format."""

from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.archives import source_key, unpack
from trainer.cache import atomic_folder
from trainer.configuration import ConfigError
from trainer.datasets import webdataset
from trainer.datasets.folders import read_folder
from trainer.datasets.label_table import read_table
from trainer.datasets.photos import LabelledPhoto
from trainer.importing import parquet

FORMATS = "a folder or zip archive of <identity>/<photo>, a CSV file, a Parquet file, or a WebDataset tar file"


def read_photos(sources: Sequence[Path], work: Path) -> list[LabelledPhoto]:
    """Returns the labelled photos of all sources.

    Args:
        work: folder for extracted archives.

    Raises:
        ConfigError: A source does not exist, has an unknown format, or contains no labelled photo.
    """
    return [photo for source in sources for photo in _read(source, work)]


def _read(source: Path, work: Path) -> list[LabelledPhoto]:
    if not source.exists():
        raise ConfigError(f"{source} does not exist; name {FORMATS}")
    if source.is_dir():
        return read_folder(source)
    reader = _READERS.get(source.suffix.lower())
    if reader is None:
        raise ConfigError(f"{source} has an unknown format; name {FORMATS}")
    return reader(source, work)


def _read_zip(source: Path, work: Path) -> list[LabelledPhoto]:
    return read_folder(unpack([source], work))


def _read_tar(source: Path, work: Path) -> list[LabelledPhoto]:
    folder = work / source_key(source)
    if not folder.exists():
        webdataset.extract(source, folder)
    return read_folder(folder)


def _read_parquet(source: Path, work: Path) -> list[LabelledPhoto]:
    folder = work / source_key(source)
    if not folder.exists():
        with atomic_folder(folder) as unfinished:
            parquet.write_identities(parquet.read(str(source), "image", "label"), unfinished)
    return read_folder(folder)


_READERS: dict[str, Callable[[Path, Path], list[LabelledPhoto]]] = {
    ".zip": _read_zip,
    ".tar": _read_tar,
    ".parquet": _read_parquet,
    ".csv": lambda source, _: read_table(source),
}
