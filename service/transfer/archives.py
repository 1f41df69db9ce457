"""Packs pictures into archives that the registry enrols, each with a `people.csv`."""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service.transfer.people import PersonPicture

ARCHIVE_BYTES = 512 * 1024**2
"""Size from which on the next archive begins. `limits.max_archive_bytes` of the registry is 4 GiB by default."""
ARCHIVE_PICTURES = 20_000


@dataclass
class Archive:
    """An archive on disk.

    Attributes:
        sources: where each of its pictures comes from, by the name in the archive.
        missing: pictures that could not be read: (source, person, reason).
    """

    path: Path
    sources: dict[str, PersonPicture] = field(default_factory=dict)
    missing: list[tuple[str, str, str]] = field(default_factory=list)


def archives(pictures: Iterable[PersonPicture], folder: Path) -> Iterator[Archive]:
    """Writes archives one after the other into a folder; each is deleted when the next one is requested."""
    remaining = iter(pictures)
    number = 0
    while True:
        archive = Archive(folder / f"{number}.zip")
        _write(archive, remaining)
        if not archive.sources and not archive.missing:
            archive.path.unlink(missing_ok=True)
            return
        yield archive
        archive.path.unlink(missing_ok=True)
        number += 1


def _write(archive: Archive, pictures: Iterator[PersonPicture]) -> None:
    """Writes pictures until the archive is full. Their names are numbers: those of people may contain a `/`."""
    size = 0
    with zipfile.ZipFile(archive.path, "w", zipfile.ZIP_STORED) as file:
        while size < ARCHIVE_BYTES and len(archive.sources) < ARCHIVE_PICTURES:
            if (picture := next(pictures, None)) is None:
                break
            data = picture.read()
            if isinstance(data, str):
                archive.missing.append((picture.source, picture.person, data))
                continue
            name = f"{len(archive.sources)}{picture.suffix}"
            file.writestr(name, data)
            archive.sources[name] = picture
            size += len(data)
        file.writestr("people.csv", _manifest(archive.sources))


def _manifest(sources: dict[str, PersonPicture]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(("file", "external_id", "label"))
    writer.writerows((name, picture.person, picture.label or "") for name, picture in sources.items())
    return text.getvalue()
