"""The CSV of a job's rows contains no text that a spreadsheet program evaluates as a formula."""

import csv
import io

import httpx
import pytest

from service.api.routes.jobs import _csv_cell
from tests.contract.test_jobs import finished_job, submit

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)"]


def test_names_and_sources_are_no_formulas(client: httpx.Client, collection_name: str) -> None:
    address = submit(client, collection_name, {f"people/{name}/1.jpg": b"broken" for name in FORMULAS})
    assert finished_job(client, address)["total"] == len(FORMULAS)
    path, query = address.split("?")[0], {"collection": collection_name}
    table = list(csv.DictReader(io.StringIO(client.get(f"{path}/rows.csv", params=query).text)))
    assert {row["external_id"] for row in table} == {f"'{name}" for name in FORMULAS}
    assert {row["source"] for row in table} == {f"people/{name}/1.jpg" for name in FORMULAS}
    assert {int(row["number"]) for row in table} == set(range(len(FORMULAS)))
    unchanged = client.get(f"{path}/rows", params=query).json()["rows"]
    assert {row["external_id"] for row in unchanged} == set(FORMULAS)


@pytest.mark.parametrize(
    ("value", "cell"),
    [("\t=1", "'\t=1"), ("\r=1", "'\r=1"), ("a=1", "a=1"), ("'=1", "'=1"), (-1, "-1"), (None, ""), ("", "")],
)
def test_only_text_that_begins_like_a_formula_is_changed(value: object, cell: str) -> None:
    assert _csv_cell(value) == cell
