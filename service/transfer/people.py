"""People and their pictures in other systems: folders, and the face collections of CompreFace."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from service.names import comparable
from service.transfer.rest import Download, SourceError, System, get_json
from service.vision.formats import SUFFIXES

PAGE = 100
COMPREFACE = System(
    "CompreFace",
    "send the API key of a recognition service and its URL",
    "CompreFace has not stored this picture (save_images_to_db); enrol the person with a new one",
)
SAME_NAME = "the folders {first} and {second} have the same name and may belong to two people; rename one"


@dataclass(frozen=True, slots=True)
class PersonPicture:
    """A picture of a person in another system.

    Attributes:
        source: where it comes from, for the report.
        read: returns the bytes of the file; a text says why there are none.
        label: the name to show; None: `person`.
    """

    person: str
    source: str
    suffix: str
    read: Callable[[], bytes | str]
    label: str | None = None


def in_folders(folder: Path) -> Iterator[PersonPicture]:
    """Yields the pictures `<person>/<picture>` of a folder, the layout of LFW and of databases of DeepFace.

    A picture at the top is that of a person with its name. Files of embeddings, such as `*.pkl`, are left out.
    """
    places: dict[str, Path] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES):
        below = file.relative_to(folder)
        if any(part.startswith(".") for part in below.parts):
            continue
        person = below.parent.name or below.stem
        place = places.setdefault(comparable(person), below.parent)
        reason = None if place == below.parent else SAME_NAME.format(first=place, second=below.parent)
        yield PersonPicture(person, str(below), file.suffix.lower(), _File(file, reason))


def in_compreface(client: httpx.Client) -> Iterator[PersonPicture]:
    """Yields the pictures of the face collection whose key the client sends. Raises SourceError."""
    page, pages = 0, 1
    while page < pages:
        document = get_json(client, "/api/v1/recognition/faces", {"page": page, "size": PAGE}, COMPREFACE)
        try:
            pages = int(document["total_pages"])
            faces = [(str(face["subject"]), str(face["image_id"])) for face in document["faces"]]
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(f"{client.base_url} does not answer like CompreFace: {error!r}") from None
        for subject, image_id in faces:
            read = Download(client, f"/api/v1/recognition/faces/{image_id}/img", COMPREFACE)
            yield PersonPicture(subject, f"{subject}/{image_id}", ".jpg", read)
        page += 1


@dataclass(frozen=True, slots=True)
class _File:
    file: Path
    reason: str | None

    def __call__(self) -> bytes | str:
        try:
            return self.file.read_bytes() if self.reason is None else self.reason
        except OSError as error:
            return f"the file cannot be read: {error.strerror}"
