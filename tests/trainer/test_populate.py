"""The command `populate` registers a data set in a running registry."""

import csv
import shutil
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from identity_registry import Registry
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
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_populate_enrols_each_picture_once_and_reports_rejected_pictures(
    client: httpx.Client, collection_name: str, photos: Path, tmp_path: Path
) -> None:
    summary = populate(client, photos, collection_name, tmp_path / "first")
    assert "3 pictures enrolled, 0 enrolled before, 2 rejected; 2 of 3 identities enrolled" in summary
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
        identities = list(registry.list_identities(collection=collection_name))
        assert {identity.label: identity.template_count for identity in identities} == {"collins": 2, "hopper": 1}
        response = registry.search(brighter(COLLINS, 0.7), collection=collection_name)
    assert response.results[0].candidates[0].label == "collins"


def test_populate_fails_if_it_enrols_no_identity(client: httpx.Client, collection_name: str, tmp_path: Path) -> None:
    (tmp_path / "photos" / "ada").mkdir(parents=True)
    (tmp_path / "photos" / "ada" / "1.jpg").write_bytes(b"no picture")
    words = ["populate", "--photos", tmp_path / "photos", "--url", client.base_url, "--collection", collection_name]
    result = CliRunner().invoke(app, [str(word) for word in [*words, "--output", tmp_path / "report"]])
    assert result.exit_code == 1
    assert "0 of 1 identities enrolled" in result.stdout


def test_populate_reports_an_empty_folder(client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    words = ["populate", "--photos", str(tmp_path / "empty"), "--url", str(client.base_url)]
    result = CliRunner().invoke(app, words)
    assert "no <identity>/<photo> below" in str(result.exception)
