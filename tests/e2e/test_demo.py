import shutil
from pathlib import Path

import pytest

from service.demo import run as demo
from service.demo.photos import cast_from
from service.demo.report import Report, Step
from service.errors import StartupError
from tests.photos import BUS, COLLINS, HOPPER, TRAINER, brighter


def test_the_demo_decides_right_and_draws_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run(None, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "decisions are right" in printed
    assert "nobody" in printed
    assert (tmp_path / "out" / "found.jpg").stat().st_size > 20_000


def test_ones_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, path in {"a": COLLINS, "b": HOPPER, "c": BUS}.items():
        (tmp_path / name).mkdir()
        shutil.copy(path, tmp_path / name / f"1{path.suffix}")
        (tmp_path / name / "2.jpg").write_bytes(brighter(path, 0.8))
    assert demo.run(tmp_path, tmp_path / "out") == 0
    assert "photo 2.jpg" in capsys.readouterr().out


def test_a_wrong_decision_is_not_a_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same person under two names, and enrolled people who also play the stranger."""
    for name, path in {"a": COLLINS, "b": TRAINER, "stranger": COLLINS}.items():
        (tmp_path / name).mkdir()
        shutil.copy(path, tmp_path / name / f"1{path.suffix}")
    assert demo.run(tmp_path, tmp_path / "out") == 1
    assert "decisions are wrong" in capsys.readouterr().out


def test_too_few_people_are_told(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="at least three folders"):
        cast_from(tmp_path)
    with pytest.raises(StartupError, match="at least three folders"):
        cast_from(tmp_path / "nonexistent")


def test_the_report_counts_wrong_steps() -> None:
    steps = [Step("search", "x", "all", 0.5, 0.4, "y", right, 1.0) for right in (True, False)]
    assert Report(steps).wrong == 1
