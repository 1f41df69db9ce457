"""Grouping of the rows of a bulk enrolment, and checks before an archive is opened."""

import uuid
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ArchiveUnreadable
from service.gallery.jobs.records import JobRow, RowResult
from service.jobs import bulk_enrolment, sources
from service.jobs.sources import Archive

JOB = uuid.uuid4()


def row(number: int, person: str) -> JobRow:
    return JobRow(number, f"{number}.jpg", person, None, None, None, None, None, None, None, None)


@given(st.lists(st.integers(0, 3), max_size=60), st.sets(st.integers(0, 59)))
def test_groups_contain_every_row_once_and_one_person_each(people: list[int], isolated: set[int]) -> None:
    rows = [row(number, str(person)) for number, person in enumerate(sorted(people))]
    groups = list(bulk_enrolment._groups(rows, {(JOB, number) for number in isolated}))
    assert sorted(one.number for group in groups for one in group) == list(range(len(rows)))
    for group in groups:
        assert len({one.external_id for one in group}) == 1
        assert len(group) <= bulk_enrolment.PICTURES_PER_REQUEST
        assert len(group) == 1 or not any(one.number in isolated for one in group)


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_parts_fit_into_a_request_unless_a_single_picture_is_too_large(pictures: list[bytes]) -> None:
    items: list[tuple[JobRow, bytes] | RowResult] = [(row(number, "p"), data) for number, data in enumerate(pictures)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulk_enrolment, "BYTES_PER_REQUEST", 8)
        parts = list(bulk_enrolment._split_by_bytes(items))
    assert [item for part in parts for item in part] == items
    for part in parts:
        size = sum(len(item[1]) for item in part if not isinstance(item, RowResult))
        assert len(part) == 1 or size <= 8


@pytest.mark.parametrize("entries", [200, 70_000])
def test_an_archive_with_too_many_entries_is_not_opened(
    tmp_path: Path, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive with 70,000 entries has the 64-bit form of the end record."""
    file = tmp_path / "many.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(entries):
            archive.writestr(f"{number}", b"")
    Archive(file).close()
    monkeypatch.setattr(sources, "MAX_DIRECTORY_BYTES", entries * 40)
    with pytest.raises(ArchiveUnreadable, match="too many entries"):
        Archive(file)


def test_an_entry_without_a_name_is_no_picture(tmp_path: Path) -> None:
    file = tmp_path / "nameless.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", b"data")
        archive.writestr("ann/1.jpg", b"data")
    # `ZipFile.writestr` refuses to write such an entry.
    source = Archive(file)
    source._zip.infolist()[0].filename = ""
    assert [row.source for row in sources.list_rows(source)] == ["ann/1.jpg"]


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 100_000,
        '{"a": NaN}',
        '{"a": 1e400}',
        r'{"a": "\ud800"}',
        r'{"a": "\u0000"}',
        '{"a":' * 50 + "1" + "}" * 50,
    ],
    ids=range(6),
)
def test_metadata_that_cannot_be_stored_reject_their_line_only(tmp_path: Path, metadata: str) -> None:
    quoted = metadata.replace('"', '""')
    lines = f'file,external_id,metadata\n1.jpg,ann,"{quoted}"\n2.jpg,ben,"{{}}"\n'
    file = tmp_path / "archive.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (("people.csv", lines), ("1.jpg", "x"), ("2.jpg", "x")):
            archive.writestr(name, data)
    rejected, accepted = sources.list_rows(Archive(file))
    assert (rejected.status, rejected.code) == ("rejected", "invalid_request")
    assert (accepted.status, accepted.metadata) == (None, {})


@pytest.mark.parametrize("length", [0, 20, -10])
def test_a_truncated_archive_is_refused(tmp_path: Path, length: int) -> None:
    file = tmp_path / "truncated.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ann/1.jpg", b"x" * 100)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(ArchiveUnreadable, match="check that the upload was complete"):
        Archive(file)
