"""Lists the rows of a bulk enrolment: one for each picture and for each skipped file."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from service.errors import ArchiveUnreadable, ImageTooLarge, ImageUnreadable
from service.gallery.jobs.records import NewRow
from service.jobs.sources.annotations import ANNOTATIONS, annotation_rows
from service.jobs.sources.face_regions import MAX_PACKET_BYTES, face_regions
from service.jobs.sources.manifest import MANIFEST, manifest_rows
from service.jobs.sources.pictures import PictureSource, name_problem
from service.jobs.sources.row_checks import checked, rejected
from service.names import comparable

REPEATED = "the source has several files with this name, of which only one can be read; rename them"
SAME_NAME = (
    "the folders {first} and {second} have the same name and may belong to two people; rename one, or list the files "
    f"in {MANIFEST}"
)
NOT_NAMED = "{manifest} does not name the file; add a line for it"
SIDECAR = ".xmp"
NO_REGION = "the picture has no named face region in its XMP; name its faces, or send the job without people=regions"


def list_rows(source: PictureSource, max_rows: int) -> list[NewRow]:
    """Returns one row per file, sorted by `external_id`. Skipped files and invalid lines have a rejected row.

    If the source has a `people.csv` or COCO annotations at its top, they assign files to people. Otherwise the name of
    a picture's folder is the `external_id`; for a picture at the top, its name without the suffix is.

    Args:
        max_rows: maximum number of rows.

    Raises:
        ArchiveUnreadable: there is no picture, there are too many rows, or the manifest is invalid.
    """
    names = source.names()
    manifest = next((name for name in (MANIFEST, *ANNOTATIONS) if name in names), None)
    rows = _rows_by_folder(source, names) if manifest is None else _rows_by_manifest(source, names, manifest)
    limited = _limited(rows, max_rows)
    if manifest is None and all(name_problem(name) for name in names):
        raise ArchiveUnreadable(
            f"the source contains no picture; store pictures as <person>/<picture>.jpg, or list them in {MANIFEST}"
        )
    return sorted((checked(row) for row in limited), key=lambda row: comparable(row.external_id))


def list_regions(source: PictureSource, max_rows: int, max_bytes: int) -> list[NewRow]:
    """Returns one row per named face in the XMP of the pictures. Files without such a face have a rejected row.

    Args:
        max_bytes: maximum size of a picture file.

    Raises:
        ArchiveUnreadable: there is no picture, or there are too many rows.
    """
    rows = _limited(_rows_by_regions(source, max_bytes), max_rows)
    return sorted((checked(row) for row in rows), key=lambda row: comparable(row.external_id))


def list_pictures(source: PictureSource, max_rows: int) -> list[NewRow]:
    """Returns one row per file, without an `external_id`. Skipped files have a rejected row.

    Raises:
        ArchiveUnreadable: there is no picture, or there are too many rows.
    """
    names = source.names()
    rows = [replace(checked(row), external_id="") for row in _limited(_rows_of_files(source, names), max_rows)]
    if all(name_problem(name) for name in names):
        raise ArchiveUnreadable("the source contains no picture")
    return rows


def _limited(rows: Iterator[NewRow], max_rows: int) -> list[NewRow]:
    """Returns all rows. Raises ArchiveUnreadable if there are more than `max_rows`."""
    limited = list(itertools.islice(rows, max_rows + 1))
    if len(limited) > max_rows:
        raise ArchiveUnreadable(
            f"one job has at most {max_rows:,} rows; split the pictures into several jobs, or raise "
            "jobs.max_archive_entries"
        )
    return limited


def _rows_by_folder(source: PictureSource, names: Sequence[str]) -> Iterator[NewRow]:
    """Yields a row for each file. Folders of one name at different places are not one person."""
    folders: dict[str, PurePosixPath] = {}
    for row in _rows_of_files(source, names):
        folder = PurePosixPath(row.source).parent
        if row.status is None and folder.name:
            first = folders.setdefault(comparable(folder.name), folder)
            if comparable(str(first)) != comparable(str(folder)):
                row = rejected(row, SAME_NAME.format(first=first, second=folder), ImageUnreadable.code)
        yield row


def _rows_of_files(source: PictureSource, names: Sequence[str]) -> Iterator[NewRow]:
    seen: set[str] = set()
    for name in names:
        problem = name_problem(name) or (REPEATED if name in seen else None) or source.problem(name)
        seen.add(name)
        yield _row_of_file(name, problem)


def _rows_by_manifest(source: PictureSource, names: Sequence[str], manifest: str) -> Iterator[NewRow]:
    """Yields the rows of the manifest, then rejected rows of the files that it does not name."""
    unnamed = dict.fromkeys(names)
    del unnamed[manifest]
    is_empty = True
    read = manifest_rows if manifest == MANIFEST else annotation_rows
    for row in read(source, manifest, frozenset(names)):
        is_empty = False
        unnamed.pop(row.source, None)
        yield row
    if is_empty:
        raise ArchiveUnreadable(f"{manifest} names no picture; add a line for each picture")
    for name in unnamed:
        yield _row_of_file(name, name_problem(name) or NOT_NAMED.format(manifest=manifest))


def _rows_by_regions(source: PictureSource, max_bytes: int) -> Iterator[NewRow]:
    names = source.names()
    if all(name_problem(name) for name in names):
        raise ArchiveUnreadable("the source contains no picture")
    sidecars = {name for name in names if PurePosixPath(name).suffix.lower() == SIDECAR}
    for row in _rows_of_files(source, [name for name in names if name not in sidecars]):
        if row.status is not None:
            yield row
            continue
        sidecar = next((name for name in _sidecars_of(row.source) if name in sidecars), None)
        try:
            xmp = b"" if sidecar is None else source.read(sidecar, MAX_PACKET_BYTES)
            regions = face_regions(source.read(row.source, max_bytes), xmp)
        except (ImageUnreadable, ImageTooLarge) as error:
            yield rejected(row, error.detail, error.code)
            continue
        if not regions:
            yield rejected(row, NO_REGION, ImageUnreadable.code)
        yield from (NewRow(row.source, region.name, box=region.box) for region in regions)


def _sidecars_of(name: str) -> list[str]:
    """Returns the names that programs give to the XMP file of a picture: digiKam the first, Lightroom the second."""
    return [f"{name}{SIDECAR}", str(PurePosixPath(name).with_suffix(SIDECAR))]


def _row_of_file(name: str, problem: str | None) -> NewRow:
    path = PurePosixPath(name)
    row = NewRow(name, path.parent.name or path.stem)
    return row if problem is None else rejected(row, problem, ImageUnreadable.code)
