import re
import shutil
from pathlib import Path

import pytest

from service.demo import photos
from service.demo import run as demo
from service.demo.photos import cast_from
from service.demo.report import Report, Step
from service.errors import StartupError
from tests.photos import BUS, COLLINS, HOPPER, TRAINER, brighter


def test_the_demo_decides_correctly_and_writes_an_annotated_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.run(None, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "decisions are right" in printed
    assert "nobody" in printed
    assert (tmp_path / "out" / "detections.jpg").stat().st_size > 20_000
    for phase in ("starting PostgreSQL", "loading the models", "enrolling 3 people", "searching"):
        assert re.search(rf"{phase}.* \.\.\. \d+\.\d s\n", printed), phase
    assert printed.rstrip().endswith("open http://127.0.0.1:8000/docs.")
    assert "make serve" in printed


def test_the_demo_uses_a_folder_of_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, path in {"a": COLLINS, "b": HOPPER, "c": BUS}.items():
        (tmp_path / name).mkdir()
        shutil.copy(path, tmp_path / name / f"1{path.suffix}")
        (tmp_path / name / "2.jpg").write_bytes(brighter(path, 0.8))
    assert demo.run(tmp_path, tmp_path / "out") == 0
    assert "photo 2.jpg" in capsys.readouterr().out


def test_a_wrong_decision_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The stranger is a picture of an enrolled person."""
    for name, path in {"a": COLLINS, "b": TRAINER, "stranger": COLLINS}.items():
        (tmp_path / name).mkdir()
        shutil.copy(path, tmp_path / name / f"1{path.suffix}")
    assert demo.run(tmp_path, tmp_path / "out") == 1
    assert "decisions are wrong" in capsys.readouterr().out


def test_a_folder_with_too_few_people_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="at least 3 folders"):
        cast_from(tmp_path)
    with pytest.raises(StartupError, match="at least 3 folders"):
        cast_from(tmp_path / "nonexistent")


@pytest.mark.parametrize("module", ["no_such_module", "matplotlib"])
def test_a_missing_package_or_picture_is_named(module: str) -> None:
    with pytest.raises(StartupError, match=r"needs 1\.jpg of the package of-pictures"):
        photos._in_package(module, "of-pictures", "1.jpg")


def test_packages_that_are_installed_for_their_pictures_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photos, "PICTURES", tmp_path)
    (tmp_path / "ultralytics" / "assets").mkdir(parents=True)
    shutil.copy(COLLINS, tmp_path / "ultralytics" / "assets" / "bus.jpg")
    assert photos.packaged_cast().strangers == [tmp_path / "ultralytics" / "assets" / "bus.jpg"]


def test_the_report_counts_wrong_steps() -> None:
    steps = [Step("search", "x", "all", 0.5, 0.4, "y", correct, 1.0) for correct in (True, False)]
    assert Report(steps).wrong == 1
