"""The file `people.csv` of a bulk enrolment, which assigns files to people."""

import csv
import io
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from service.errors import ArchiveUnreadable, ImageTooLarge, ImageUnreadable
from service.gallery.jobs.records import NewRow
from service.jobs.sources.pictures import PictureSource
from service.jobs.sources.row_checks import rejected, storable_text, with_box, with_metadata

MANIFEST = "people.csv"
COLUMNS = {"file", "external_id", "label", "metadata", "box"}
REQUIRED = {"file", "external_id"}
DELIMITERS = (",", ";", "\t")
MAX_MANIFEST_BYTES = 32 * 1024**2
MAX_SHOWN = 200
"""Maximum number of characters of the header that an error message contains."""

csv.field_size_limit(MAX_MANIFEST_BYTES)  # with the default of 128 KiB, one long cell makes the whole file unreadable


def manifest_rows(source: PictureSource, manifest: str, names: Collection[str]) -> Iterator[NewRow]:
    """Yields one row for each line of the manifest. A line that cannot be enrolled yields a rejected row.

    Args:
        manifest: name of the manifest.
        names: names of all files of the source.

    Raises:
        ArchiveUnreadable: the manifest or its header is invalid.
    """
    try:
        # Bytes that are not UTF-8 become lone surrogates, so that only their row fails the validation.
        text = source.read(manifest, MAX_MANIFEST_BYTES).decode("utf-8-sig", "surrogateescape")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=_delimiter(text))
        _check_header(list(reader.fieldnames or ()))
        files = {unicodedata.normalize("NFC", name): name for name in names}
        for line in reader:
            yield _row(source, files, line)
    except (csv.Error, ImageUnreadable, ImageTooLarge) as error:
        raise ArchiveUnreadable(f"{MANIFEST} cannot be read: {error}") from None


def _check_header(columns: list[str]) -> None:
    """Raises ArchiveUnreadable. A repeated column would make each line as expensive as the whole header."""
    names = set(columns)
    if not names >= REQUIRED or not names <= COLUMNS or len(names) != len(columns):
        shown = storable_text(", ".join(columns[:MAX_SHOWN]))[:MAX_SHOWN] or "(none)"
        raise ArchiveUnreadable(
            f"{MANIFEST} has the columns {shown}; `file` and `external_id` are required, `label`, `metadata` "
            "(JSON) and `box` are optional, each at most once, in UTF-8"
        )


def _delimiter(text: str) -> str:
    """Returns the delimiter with which the first line has the required columns. Spreadsheets write semicolons, too."""
    header = text[:MAX_SHOWN].splitlines()[:1]
    for delimiter in DELIMITERS:
        if header and set(next(csv.reader(header, delimiter=delimiter), [])) >= REQUIRED:
            return delimiter
    return DELIMITERS[0]


def _row(source: PictureSource, files: Mapping[str, str], line: dict[str, Any]) -> NewRow:
    """Returns the row of a line.

    Args:
        files: names of the files of the source by their NFC form: file systems and editors write accents differently.
    """
    row = NewRow(line["file"] or "", line["external_id"] or "", line.get("label") or None)
    found = files.get(unicodedata.normalize("NFC", row.source))
    row = row if found is None else replace(row, source=found)
    if None in line:
        return rejected(row, f"the line in {MANIFEST} has more fields than the header has columns")
    if found is None:
        return rejected(row, f"the file that {MANIFEST} names does not exist in the source")
    if (problem := source.problem(row.source)) is not None:
        return rejected(row, problem, ImageUnreadable.code)
    if box := line.get("box"):
        row = with_box(row, box)
    text = line.get("metadata")
    return with_metadata(row, text) if text and row.status is None else row
