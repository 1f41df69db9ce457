"""Grouping of the rows of a bulk enrolment."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.gallery.jobs.records import JobRow, RowResult
from service.jobs import bulk_enrolment

JOB = uuid.uuid4()


def row(number: int, person: str) -> JobRow:
    return JobRow(number, f"{number}.jpg", person, *[None] * 9)


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
