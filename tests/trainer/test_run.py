"""`identity-trainer run` from photos to a bundle that the service serves."""

import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from service.inference.bundle import read_embedder
from service.runtime.api import create_app
from service.runtime.settings import load_settings
from tests.conftest import serving
from tests.photos import COLLINS, HOPPER, b64, pixels
from trainer.__main__ import app
from trainer.options import BUNDLE
from trainer.run import plan

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision
SIDE = 200


def photos_of(folder: Path, people: int, each: int) -> Path:
    """Writes different photos under many names. They show two people, so that figures of people are meaningless."""
    random = np.random.default_rng(0)
    faces = [Image.fromarray(pixels(path)).convert("RGB") for path in (COLLINS, HOPPER)]
    for person in range(people):
        (folder / f"person {person:02}").mkdir(parents=True)
        for number in range(each):
            photo = faces[person % 2].rotate(random.uniform(-8, 8)).resize((SIDE, SIDE))
            lit = np.asarray(photo) * random.uniform(0.5, 1.2) + random.normal(0, 6, (SIDE, SIDE, 3))
            Image.fromarray(lit.clip(0, 255).astype(np.uint8)).save(folder / f"person {person:02}" / f"{number}.jpg")
    return folder


def run(*words: object) -> str:
    return CliRunner().invoke(app, ["run", *map(str, words)], catch_exceptions=False).stdout


def test_few_people_calibrate_the_shipped_model_and_the_service_uses_it(tmp_path: Path, postgres_url: str) -> None:
    folder = photos_of(tmp_path / "photos", 12, 2)
    Image.new("RGB", (64, 64)).save(folder / "person 00" / "black.png")
    (folder / "person 01" / "text.jpg").write_text("no picture")
    planned = run(folder, "--name", "few", "--plan")
    assert "26 photos of 12 people" in planned
    assert "No training: 1 people with at least two photos would remain" in " ".join(planned.split())
    output = run(folder, "--name", "few", "--output", tmp_path / "few")
    assert "Step 4 of 4" in output
    assert f"REGISTRY_EMBEDDER__BUNDLE={tmp_path / 'few' / 'bundle'} identity-registry serve" in output
    manifest = read_embedder(tmp_path / "few" / "bundle")
    assert manifest.model_id == read_embedder(BUNDLE).model_id
    assert manifest.calibration is not None
    assert "12 people who were not in the training data, 24 aligned crops" in manifest.calibration.data
    report = (tmp_path / "few" / "report" / "report.html").read_text()
    for part in (
        "2 photos without a face",
        "Nothing was trained",
        "Hardest pairs",
        "may be one person",
        "measured FMR",
    ):
        assert part in report
    (folder / "person 02" / "0.jpg").unlink()  # a photo that the report has shown to be wrong
    (folder / "person 03" / "0.jpg").rename(folder / "person 04" / "moved.jpg")
    run(folder, "--name", "few", "--output", tmp_path / "few")
    crops = {str(path.relative_to(tmp_path / "few" / "crops")) for path in (tmp_path / "few" / "crops").glob("*/*")}
    assert len(crops) == 23
    assert {"person 02/1.webp", "person 03/1.webp", "person 04/moved.webp"} <= crops
    manifest = read_embedder(tmp_path / "few" / "bundle")
    assert manifest.calibration is not None
    settings = load_settings(database={"url": postgres_url}, embedder={"bundle": tmp_path / "few" / "bundle"})
    with serving(create_app(settings)) as client:
        served = client.get(f"/models/{manifest.model_id}/calibration").json()["calibration"]
        assert served["data"] == manifest.calibration.data


def test_enough_people_train_a_model_and_a_second_call_reuses_it(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "EPOCHS", (2, 2))
    folder = photos_of(tmp_path / "photos", 40, 2)
    words = [folder, "--name", "mine-1", "--training", "always", "--output", tmp_path / "mine"]
    first = run(*words)
    assert "Step 6 of 6" in first
    assert "TAR at FMR" in first
    bundle = read_embedder(tmp_path / "mine" / "bundle")
    assert re.fullmatch("mine-1-[0-9a-f]{6}", bundle.model_id)
    assert bundle.provenance.data == ["own photos (photos): 80 photos of 40 people"]
    assert bundle.provenance.initialised_from == "mobilefacenet-128-1, changed by further training"
    assert bundle.split is not None
    assert bundle.calibration is not None
    assert bundle.calibration.people == 16  # 40 %
    assert read_embedder(tmp_path / "mine" / "shipped").model_id == "mobilefacenet-128-2"
    checkpoint = next((tmp_path / "mine" / "training").glob("*/1-batch-hard/best.ckpt"))
    before = checkpoint.stat().st_mtime_ns
    assert "starts with epoch" not in run(*words)
    assert checkpoint.stat().st_mtime_ns == before
    settings = load_settings(database={"url": postgres_url}, embedder={"bundle": tmp_path / "mine" / "bundle"})
    with serving(create_app(settings)) as client:
        assert client.post("/collections", json={"name": "mine", "model_id": bundle.model_id}).status_code == 201
        body = {"label": "Collins", "image": b64(COLLINS.read_bytes())}
        assert client.post("/register", params={"collection": "mine"}, json=body).status_code == 201
        found = search(client, COLLINS)
        assert (found["label"], found["match"]) == ("Collins", True)


def search(client: httpx.Client, photo: Path) -> dict:
    body = {"image": b64(photo.read_bytes()), "threshold": 0.5}
    return client.post("/search", params={"collection": "mine"}, json=body).json()["results"][0]["candidates"][0]


def test_names_and_data_are_checked_before_any_work(tmp_path: Path) -> None:
    folder = photos_of(tmp_path / "photos", 3, 2)
    for words, message in (
        ([folder, "--name", "My Model"], "lower-case letters"),
        ([folder, "--name", "mine"], "3 people, 3 of them with at least two photos, are too few"),
        ([tmp_path / "nowhere", "--name", "mine"], "does not exist; name a folder or zip archive"),
    ):
        result = CliRunner().invoke(app, ["run", *map(str, words), "--output", str(tmp_path / "run")])
        assert message in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_copies_and_unusable_options_are_noticed_before_any_work(tmp_path: Path) -> None:
    folder = photos_of(tmp_path / "photos", 12, 2)
    assert "24 exact copies of photos of the same person do not count" in run(
        folder, folder, "--name", "twice", "--plan"
    )
    (tmp_path / "file").write_text("no provenance")
    for words, message in (
        (["--provenance", tmp_path / "file"], "a provenance has the keys data"),
        (["--output", tmp_path / "file"], "is a file; name a folder"),
    ):
        result = CliRunner().invoke(app, ["run", str(folder), "--name", "mine", *map(str, words)])
        assert message in str(result.exception)
