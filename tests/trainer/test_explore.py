"""Tests of the data set report: statistics, duplicates, and possible label errors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.photos import COLLINS, HOPPER, pixels
from trainer import html_report
from trainer.__main__ import app
from trainer.explore.label_errors import duplicate_identities, suspected_errors
from trainer.explore.statistics import channel_statistics, duplicates, examine


def test_channel_statistics_equal_those_of_all_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(low, high, (40, 40, 3), np.uint8) for low, high in ((0, 100), (50, 255), (200, 250))]
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    statistics, unreadable = examine([("x", sorted(tmp_path.iterdir()))])
    assert unreadable == []
    mean, std = channel_statistics(statistics)
    pixels = np.stack(pictures).reshape(-1, 3) / 255
    np.testing.assert_allclose(mean, pixels.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(std, pixels.std(axis=0), atol=1e-6)


def test_copied_and_recompressed_pictures_are_duplicates(tmp_path: Path) -> None:
    for name, path in (("a", COLLINS), ("b", HOPPER)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels(path)).save(tmp_path / name / "1.png")
    shutil.copy(tmp_path / "a" / "1.png", tmp_path / "a" / "2.png")
    picture = Image.fromarray(pixels(COLLINS))
    picture.resize((picture.width // 2, picture.height // 2)).save(tmp_path / "b" / "other.jpg", quality=60)
    statistics, _ = examine([(name, sorted((tmp_path / name).iterdir())) for name in ("a", "b")])
    (group,) = duplicates(statistics)
    assert [f"{one.identity}/{one.path.name}" for one in group] == ["a/1.png", "a/2.png", "b/other.jpg"]


def on_circle(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def test_a_picture_nearer_to_another_identity_is_a_suspected_error() -> None:
    (error,) = suspected_errors(on_circle(0, 10, 95, 90, 100), ["a", "a", "a", "b", "b"])
    assert (error.row, error.identity, error.nearest) == (2, "a", "b")
    assert error.own_cosine == pytest.approx(np.cos(np.deg2rad(90)), abs=1e-5)  # the centroid of 0 and 10 is at 5
    assert error.nearest_cosine == pytest.approx(1.0, abs=1e-5)
    assert suspected_errors(on_circle(0, 90), ["a", "b"]) == []


def test_two_identities_of_one_person_are_reported() -> None:
    (pair,) = duplicate_identities(on_circle(0, 20, 5, 15, 180), ["a", "a", "b", "b", "c"], 0.9)
    assert (pair.first, pair.second) == ("a", "b")
    assert pair.cosine == pytest.approx(1.0, abs=1e-5)


def test_the_report_shows_label_errors_and_duplicates(identity_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    shutil.copytree(identity_folder, folder)
    shutil.copy(folder / "hopper" / "03.webp", folder / "collins" / "wrong.webp")
    shutil.copy(folder / "hopper" / "04.webp", folder / "hopper" / "twice.webp")
    arguments = ["explore", "--identities", folder, "--output", tmp_path / "out", "--work", tmp_path / "work"]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "26 pictures of 2 people" in result.stdout
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| collins/wrong.webp | hopper |" in report
    assert "`hopper/04.webp`, `hopper/twice.webp`" in report
    assert "1 of them" in report  # the picture with the wrong label is in both folders
    for name in ("classes.png", "samples.jpg", "sizes.png", "duplicates.jpg", "label-errors.jpg"):
        assert f"({name})" in report
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/") == 5
    assert "<td>collins/wrong.webp</td>" in page


def test_unreadable_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "people" / "a").mkdir(parents=True)
    shutil.copy(COLLINS, tmp_path / "people" / "a")
    (tmp_path / "people" / "a" / "broken.jpg").write_bytes(b"no picture")
    arguments = ["explore", "--identities", tmp_path / "people", "--output", tmp_path / "out", "--no-crops"]
    CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "broken.jpg" in (tmp_path / "out" / "report.md").read_text()
    (tmp_path / "nothing").mkdir()
    empty = CliRunner().invoke(app, ["explore", "--identities", str(tmp_path / "nothing")])
    assert "no <identity>/<picture>" in str(empty.exception)


def test_html_in_the_name_of_a_person_is_shown_and_not_interpreted(tmp_path: Path) -> None:
    text = "# Report\n\n| person | photos |\n| --- | --- |\n| <script>alert(1)</script> | 2 |\n"
    page = html_report.write(text, "Report", tmp_path).read_text()
    assert "<table>" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
