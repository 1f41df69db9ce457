"""Each line of `people.csv` passes the validation of the API and is rejected individually."""

import json
from collections.abc import Sequence

import pytest

from service.errors import ArchiveUnreadable
from service.gallery.jobs.records import NewRow, RowStatus
from service.jobs.sources.rows import list_rows

MAX_ROWS = 1000


class Files:
    """Files in memory as a source of pictures."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def names(self) -> list[str]:
        return list(self._files)

    def problem(self, name: str) -> str | None:
        return None

    def read(self, name: str, max_bytes: int) -> bytes:
        return self._files[name]

    def close(self) -> None:
        pass


def rows_of(manifest: bytes, others: Sequence[str] = ()) -> dict[str, NewRow]:
    """Returns the rows of a manifest by person. The manifest names `a.jpg`."""
    source = Files({"people.csv": manifest, "a.jpg": b"-"} | dict.fromkeys(others, b"-"))
    return {row.external_id: row for row in list_rows(source, MAX_ROWS)}


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize(
    "metadata",
    [
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e400}',
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": "\\u0000"}',
        '{"a": ' + "9" * 6000 + "}",
        '{"a": ' + "9" * 4000 + "}",
        '{"a": ' + "[" * 200 + "]" * 200 + "}",
        '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
        json.dumps({"a": "x" * 16_384}),
        json.dumps({"a": "x" * 1_000_000}),
        "[1]",
        "1",
        "not json",
        "{",
    ],
)
def test_invalid_metadata_rejects_only_its_line(metadata: str) -> None:
    lines = f"file,external_id,metadata\na.jpg,bad,{quoted(metadata)}\na.jpg,good,{quoted(json.dumps({'a': 1}))}\n"
    rows = rows_of(lines.encode())
    assert (rows["bad"].status, rows["good"].status) == (RowStatus.REJECTED, None)
    assert "metadata" in (rows["bad"].detail or "")
    assert rows["good"].metadata == {"a": 1}


@pytest.mark.parametrize(
    "cell",
    [b"x" * 257, b"x" * 1_000_000, b"a\x00b", b"\xed\xa0\x80", b"\xff\xfe", b""],
    ids=lambda cell: repr(cell[:8]),
)
@pytest.mark.parametrize("column", ["external_id", "label"])
def test_invalid_name_rejects_only_its_line(cell: bytes, column: str) -> None:
    bad = b"a.jpg," + (cell + b"," if column == "external_id" else b"bad," + cell)
    source = Files({"people.csv": b"file,external_id,label\n" + bad + b"\na.jpg,good,Good\n", "a.jpg": b"-"})
    good, other = sorted(list_rows(source, MAX_ROWS), key=lambda row: row.external_id != "good")
    assert good.status is None
    if column == "label" and not cell:
        assert (other.status, other.label) == (None, None)
    else:
        assert other.status is RowStatus.REJECTED
        assert column in (other.detail or "")
    for text in (other.source, other.external_id, other.detail or ""):
        assert "\x00" not in text
        text.encode()  # raises for lone surrogates


def test_metadata_of_the_maximum_size_is_accepted() -> None:
    metadata = json.dumps({"a": "x" * (16_384 - len('{"a": ""}'))})
    assert rows_of(f"file,external_id,metadata\na.jpg,p,{quoted(metadata)}\n".encode())["p"].status is None


def test_files_that_the_manifest_does_not_name_have_rejected_rows() -> None:
    rows = rows_of(b"file,external_id\na.jpg,p\n", ["unnamed.jpg", "notes.txt", ".hidden"])
    assert {row.source: row.status for row in rows.values()} == {
        "a.jpg": None,
        "unnamed.jpg": RowStatus.REJECTED,
        "notes.txt": RowStatus.REJECTED,
        ".hidden": RowStatus.REJECTED,
    }
    assert "does not name the file" in (rows["unnamed"].detail or "")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"file,external_id\n",
        b"file\na.jpg\n",
        b"file,external_id,more\na.jpg,p,x\n",
        b"file,external_id" + b",file" * 1_000_000 + b"\na.jpg,p\n" * 100_000,
        b"x" * 1_000_000,
        b"\xff\xfef\x00i\x00l\x00e\x00",
        b'file,external_id\n"a.jpg',
    ],
    ids=lambda manifest: repr(manifest[:20]),
)
@pytest.mark.timeout(20)
def test_invalid_manifest_fails_the_job_with_a_short_problem(manifest: bytes) -> None:
    with pytest.raises(ArchiveUnreadable, match=r"people\.csv") as refused:
        rows_of(manifest)
    assert len(refused.value.detail) < 500
    refused.value.detail.encode()
    assert "\x00" not in refused.value.detail


def test_manifest_with_too_many_lines_fails_the_job() -> None:
    with pytest.raises(ArchiveUnreadable, match="at most 1,000 rows"):
        rows_of(b"file,external_id\n" + b"a.jpg,p\n" * 1001)
