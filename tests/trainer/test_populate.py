"""A data set goes into a running registry, once."""

import csv
import shutil
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from service.client import Registry
from service.client import operations as op
from tests.photos import BUS, COLLINS, HOPPER, brighter
from trainer.__main__ import app


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, picture in {"collins": COLLINS, "hopper": HOPPER, "bus": BUS}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(picture, tmp_path / "photos" / name / f"1{picture.suffix}")
    (tmp_path / "photos" / "collins" / "2.jpg").write_bytes(brighter(COLLINS, 0.8))
    (tmp_path / "photos" / "hopper" / "2.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


def populate(client: httpx.Client, photos: Path, collection: str, output: Path) -> str:
    words = ["populate", "--photos", photos, "--url", client.base_url, "--collection", collection, "--output", output]
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_everybody_is_enrolled_once_and_refusals_are_told(
    client: httpx.Client, collection_name: str, photos: Path, tmp_path: Path
) -> None:
    said = populate(client, photos, collection_name, tmp_path / "first")
    assert "3 pictures enrolled, 0 were there already, 2 refused; 2 of 3 people are in" in said
    with (tmp_path / "first" / "populated.csv").open() as file:
        rows = {(row["identity"], Path(row["picture"]).name): row for row in csv.DictReader(file)}
    assert {key: (row["status"], row["code"]) for key, row in rows.items()} == {
        ("bus", "1.jpg"): ("rejected", "several_faces"),
        ("collins", f"1{COLLINS.suffix}"): ("accepted", ""),
        ("collins", "2.jpg"): ("accepted", ""),
        ("hopper", f"1{HOPPER.suffix}"): ("accepted", ""),
        ("hopper", "2.jpg"): ("rejected", "image_unreadable"),
    }
    report = (tmp_path / "first" / "report.md").read_text()
    assert "| several_faces | 1 |" in report
    assert (tmp_path / "first" / "rejected.jpg").stat().st_size > 1_000
    populate(client, photos, collection_name, tmp_path / "second")
    with Registry(str(client.base_url)) as registry:
        people = list(registry.all(op.identities(collection=collection_name)))
        assert {person.label: person.template_count for person in people} == {"collins": 2, "hopper": 1}
        found = registry.send(op.search(brighter(COLLINS, 0.7), collection=collection_name))
    assert found.results[0].candidates[0].label == "collins"


def test_a_data_set_of_which_nobody_could_be_enrolled_is_a_failure(
    client: httpx.Client, collection_name: str, tmp_path: Path
) -> None:
    (tmp_path / "photos" / "ada").mkdir(parents=True)
    (tmp_path / "photos" / "ada" / "1.jpg").write_bytes(b"no picture")
    words = ["populate", "--photos", tmp_path / "photos", "--url", client.base_url, "--collection", collection_name]
    done = CliRunner().invoke(app, [str(word) for word in [*words, "--output", tmp_path / "report"]])
    assert done.exit_code == 1
    assert "0 of 1 people are in" in done.stdout


def test_an_empty_folder_is_told(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ["populate", "--photos", str(tmp_path / "empty"), "--url", str(client.base_url)]
    done = CliRunner().invoke(app, words)
    assert "no <identity>/<photo> in" in str(done.exception)
