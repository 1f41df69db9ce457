"""How a bulk enrolment is cut up, and which archives are not opened at all."""

import uuid
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ArchiveUnreadable
from service.gallery.jobs.jobs import JobRow, RowResult
from service.jobs import bulk_enrolment, sources
from service.jobs.sources import Archive

JOB = uuid.uuid4()


def row(number: int, person: str) -> JobRow:
    return JobRow(number, f"{number}.jpg", person, None, None, None, None, None, None, None, None)


@given(st.lists(st.integers(0, 3), max_size=60), st.sets(st.integers(0, 59)))
def test_groups_hold_every_row_once_and_one_person_each(people: list[int], alone: set[int]) -> None:
    rows = [row(number, str(person)) for number, person in enumerate(sorted(people))]
    groups = list(bulk_enrolment._groups(rows, {(JOB, number) for number in alone}))
    assert sorted(one.number for group in groups for one in group) == list(range(len(rows)))
    for group in groups:
        assert len({one.external_id for one in group}) == 1
        assert len(group) <= bulk_enrolment.PICTURES_TOGETHER
        assert len(group) == 1 or not any(one.number in alone for one in group)


@given(st.lists(st.binary(max_size=12), max_size=12))
def test_portions_fit_into_a_request_unless_one_picture_alone_does_not(pictures: list[bytes]) -> None:
    items: list[tuple[JobRow, bytes] | RowResult] = [(row(number, "p"), data) for number, data in enumerate(pictures)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bulk_enrolment, "BYTES_TOGETHER", 8)
        portions = list(bulk_enrolment._by_bytes(items))
    assert [item for portion in portions for item in portion] == items
    for portion in portions:
        size = sum(len(item[1]) for item in portion if not isinstance(item, RowResult))
        assert len(portion) == 1 or size <= 8


@pytest.mark.parametrize("entries", [200, 70_000])
def test_an_archive_with_far_too_many_entries_is_not_opened(
    tmp_path: Path, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """70,000 entries take the 64-bit form of the list's end."""
    file = tmp_path / "many.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(entries):
            archive.writestr(f"{number}", b"")
    Archive(file).close()
    monkeypatch.setattr(sources, "LARGEST_DIRECTORY", entries * 40)
    with pytest.raises(ArchiveUnreadable, match="far too many entries"):
        Archive(file)


@pytest.mark.parametrize("kept", [0, 20, -10])
def test_an_archive_that_was_cut_off_is_told(tmp_path: Path, kept: int) -> None:
    file = tmp_path / "cut.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("ann/1.jpg", b"x" * 100)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ArchiveUnreadable, match="was it sent whole"):
        Archive(file)
