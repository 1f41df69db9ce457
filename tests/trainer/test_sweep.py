"""Runs a sweep over encoders: kills it, resumes it, and reads its report."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.photos import COLLINS
from tests.server import wait_for
from trainer.configuration import ConfigError
from trainer.sweep.config import SweepConfig

SWEEP = {
    "backbones": ["shufflenet_v2_x0_5", "mobilenet_v3_small"],
    "embedding_dims": [8, 16],
    "gallery": "calibration",
    "top_k": 2,
    "queries": 1,
    "train": {
        "input_size": 64,
        "compile": False,
        "precision": "32-true",
        "split": {"validation": 0.0, "calibration": 0.5},
        "stages": [
            {
                "name": "batch-hard",
                "epochs": 1,
                "batch_size": 8,
                "images_per_identity": 4,
                "learning_rate": 1e-3,
                "losses": {"triplet": 1.0},
            }
        ],
    },
}


def command(identities: Path, *more: str) -> list[str]:
    arguments = [
        "sweep",
        "--identities",
        str(identities),
        "--config",
        "sweep.yaml",
        "--output",
        "out",
        "--work",
        "work",
    ]
    repository = Path(__file__).parents[2]
    fixed = ["--provenance", str(repository / "configs" / "provenance-own.yaml")]
    return [sys.executable, "-m", "trainer", *arguments, *fixed, *more]


@pytest.mark.timeout(300)
def test_killed_sweep_resumes(ten_people: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    out = tmp_path / "out"
    first = out / "shufflenet_v2_x0_5-8" / "run_result.json"
    with subprocess.Popen(
        command(ten_people), cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as killed:
        wait_for(lambda: first.exists() or killed.poll() is not None, 120)
        killed.kill()
    assert len(list(out.glob("*/run_result.json"))) == 1
    before = json.loads(first.read_text())
    repository = Path(__file__).parents[2]
    detector = ["--detector", str(repository / "service" / "bundles" / "detector")]
    done = subprocess.run(command(ten_people), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(first.read_text()) == before
    results = json.loads((out / "benchmark_results.json").read_text())
    assert len(results) == 4
    assert [row["tar"] for row in results] == sorted((row["tar"] for row in results), reverse=True)
    assert all(row["latency_ms"] > 0 and row["megabytes"] > 0 and row["people"] == 5 for row in results)
    report = (out / "report.md").read_text()
    assert report.count("| shufflenet_v2_x0_5-") == 2
    grids = sorted(out.glob("grids/*.png"))
    assert 4 <= len(grids) <= (2 + 2) * 2  # one per dimension and backbone; by size too if the order differs
    assert len({grid.read_bytes() for grid in grids}) == len(grids)
    assert all(f"(grids/{grid.name})" in report for grid in grids)
    with Image.open(grids[0]) as picture:
        assert picture.width == 190 + (1 + 2) * (112 + 4)  # the query and two results
    fixed = ["--query-image", str(COLLINS), "--gallery", "all", *detector]
    again = subprocess.run(command(ten_people, *fixed), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    measured = json.loads(first.read_text())
    assert (measured["gallery"], measured["people"], measured["minutes"]) == ("all", 10, before["minutes"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbones": []}, "set either backbones and embedding_dims, or runs"),
        ({"runs": [{"backbone": "resnet18", "embedding_dim": 8}]}, "set either backbones and embedding_dims, or runs"),
        ({"train": {**SWEEP["train"], "backbone": "resnet18"}}, "remove it from train"),
        ({"train": {**SWEEP["train"], "stages": []}}, "stages"),
        ({"galery": "train"}, "Extra inputs"),
    ],
)
def test_invalid_sweep_is_rejected(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SweepConfig.model_validate({**SWEEP, **change})


def test_list_of_runs_replaces_the_product() -> None:
    runs = [{"backbone": "timm:convnextv2_atto", "embedding_dim": 64}, {"backbone": "resnet18", "embedding_dim": 8}]
    sweep = SweepConfig.model_validate({**SWEEP, "backbones": [], "embedding_dims": [], "runs": runs})
    dimensions = {run.name: config.embedding_dim for run, config in sweep.configurations().items()}
    assert dimensions == {"timm-convnextv2_atto-64": 64, "resnet18-8": 8}


@pytest.mark.parametrize(("name", "runs"), [("sweep", 6), ("ablation-landmark-channels", 1)])
def test_shipped_sweeps_are_valid(name: str, runs: int) -> None:
    sweep = SweepConfig.load(Path(__file__).parents[2] / "configs" / f"{name}.yaml")
    assert len(sweep.configurations()) == runs


def test_folder_of_another_recipe_is_rejected(ten_people: Path, tmp_path: Path) -> None:
    from trainer.choices import PartName
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.sweep.gallery import Gallery
    from trainer.sweep.result import RunResult
    from trainer.sweep.running import run_all

    sweep = SweepConfig.model_validate(SWEEP)
    crops = load_aligned_crops(ten_people, None, tmp_path / "cache")
    (tmp_path / "shufflenet_v2_x0_5-8").mkdir()
    fields = dict.fromkeys(RunResult.model_fields, 0) | {"name": "x", "backbone": "y", "gallery": "z", "recipe": "old"}
    RunResult.model_validate(fields).write(tmp_path / "shufflenet_v2_x0_5-8")
    gallery = Gallery(crops, next(iter(sweep.configurations().values())).split, PartName.CALIBRATION)
    with pytest.raises(ConfigError, match="another configuration, other pictures or another teacher"):
        next(run_all(sweep, crops, gallery, {}, tmp_path, (), tmp_path / "cache", "cpu"))


def test_empty_gallery_is_rejected(ten_people: Path, tmp_path: Path) -> None:
    from trainer.choices import PartName
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.split_config import SplitConfig
    from trainer.sweep.gallery import Gallery

    crops = load_aligned_crops(ten_people, None, tmp_path)
    with pytest.raises(ConfigError, match=r"raise split\.calibration"):
        Gallery(crops, SplitConfig(validation=0, calibration=0), PartName.CALIBRATION)
