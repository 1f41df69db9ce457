"""Annotations in the COCO format as the manifest of a bulk enrolment: the category of a box is the person.

Source: https://cocodataset.org/#format-data, object detection.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from service.errors import ArchiveUnreadable, ImageTooLarge, ImageUnreadable
from service.gallery.jobs.records import NewRow
from service.jobs.sources.pictures import PictureSource
from service.jobs.sources.row_checks import rejected
from service.names import comparable

ANNOTATIONS = ("annotations.json", "_annotations.coco.json")
"""Names of the file at the top of the source."""
MAX_BYTES = 16 * 1024**2
Id = int | str
Number = Annotated[float, Field(allow_inf_nan=False)]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Image(_Lenient):
    id: Id
    file_name: str


class _Category(_Lenient):
    id: Id
    name: str


class _Annotation(_Lenient):
    image_id: Id
    category_id: Id
    bbox: tuple[Number, Number, Number, Number] | None = None
    """x, y, width and height in pixels."""


class _Document(_Lenient):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


_DOCUMENT = TypeAdapter(_Document)


def annotation_rows(source: PictureSource, manifest: str, names: Collection[str]) -> Iterator[NewRow]:
    """Yields one row for each annotated box. A box that cannot be enrolled yields a rejected row.

    Args:
        manifest: name of the file with the annotations.
        names: names of all files of the source.

    Raises:
        ArchiveUnreadable: the file is not in the COCO format.
    """
    document = _read(source, manifest)
    files = {image.id: image.file_name for image in document.images}
    people = {category.id: category.name for category in document.categories}
    known = {comparable(name): name for name in names}
    for annotation in document.annotations:
        file = files.get(annotation.image_id, "")
        found = known.get(comparable(file))
        row = NewRow(file if found is None else found, people.get(annotation.category_id, ""))
        if annotation.bbox is None:
            yield rejected(row, "the annotation has no `bbox`")
        elif found is None:
            yield rejected(row, f"the file that {manifest} names does not exist in the source")
        elif (problem := source.problem(row.source)) is not None:
            yield rejected(row, problem, ImageUnreadable.code)
        else:
            x, y, width, height = annotation.bbox
            yield replace(row, box=(x, y, x + width, y + height))


def _read(source: PictureSource, manifest: str) -> _Document:
    try:
        return _DOCUMENT.validate_python(json.loads(source.read(manifest, MAX_BYTES)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = "/".join(map(str, first["loc"]))
        raise ArchiveUnreadable(f"{manifest} is not in the COCO format: {place}: {first['msg']}") from None
    except (ValueError, RecursionError, ImageUnreadable, ImageTooLarge) as error:
        raise ArchiveUnreadable(f"{manifest} cannot be read: {error}") from None
