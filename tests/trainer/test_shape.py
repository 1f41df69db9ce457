"""Tests of pose estimation, the landmark autoencoder and verification by yaw."""

import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.photos import COLLINS, HOPPER, pixels
from trainer.__main__ import app
from trainer.configuration import ConfigError
from trainer.shape.autoencoder import canonical, load, train
from trainer.shape.chunks import Landmarks, read_chunks, write_chunks
from trainer.shape.config import ShapeConfig
from trainer.shape.pose import EYES_MM, HEAD, pose_of
from trainer.shape.verification import by_yaw


def rotated(head: np.ndarray, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Returns (5, 3) landmarks of a head that is rotated by yaw, then pitch, then roll, in degrees."""
    y, p, r = np.radians([yaw, pitch, roll])
    aside = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
    nodded = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    tilted = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    points = head @ (tilted @ nodded @ aside).T
    return np.column_stack([1.7 * points[:, :2] + [50, 60], np.ones(5)]).astype(np.float32)


@pytest.mark.parametrize(
    "angles", [(0, 0, 0), (30, 0, 0), (-40, 10, 0), (20, -15, 25), (50, 5, -30), (10, 20, 90), (-60, -20, 170)]
)
def test_the_pose_of_a_rotated_head_is_estimated(angles: tuple[float, float, float]) -> None:
    pose = pose_of(rotated(HEAD, *angles))
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx(angles, abs=0.05)
    upright = pose_of(rotated(HEAD, angles[0], angles[1]))
    np.testing.assert_allclose(pose.points, upright.points, atol=1e-4)


def test_pose_points_are_in_distances_between_the_eyes() -> None:
    pose = pose_of(rotated(HEAD, 0))
    assert pose.points[1, 0] - pose.points[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert pose.points.mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert HEAD[1, 0] - HEAD[0, 0] == EYES_MM


def people(count: int, pictures: int, seed: int = 0) -> Landmarks:
    """Returns landmarks of heads that differ by some millimetres, each in many poses."""
    rng = np.random.default_rng(seed)
    points, names = [], []
    for person in range(count):
        head = HEAD + rng.normal(0, 3, HEAD.shape) * [1, 1, 0.3]
        for number in range(pictures):
            yaw, pitch = rng.normal(0, 4, 2) if number % 3 == 0 else rng.normal(0, 25, 2) * [1, 0.3]
            points.append(rotated(head, yaw, pitch, rng.normal(0, 10)))
            names.append(f"person {person}")
    return Landmarks(np.stack(points), names)


def test_the_autoencoder_estimates_the_frontal_face(tmp_path: Path) -> None:
    errors = train(people(150, 15), ShapeConfig(epochs=40, noise=0.002), tmp_path)
    assert errors.restored < 0.95 * errors.moved_to_front < 0.5 * min(errors.unchanged, errors.mean_face)
    model = load(tmp_path / "shape.pt")
    fronts = canonical(model, np.stack([rotated(HEAD, yaw) for yaw in (-30, 0, 30)]))
    assert np.linalg.norm(fronts - fronts[1], axis=2).max() < 0.1


def test_roll_is_an_optional_input_of_the_autoencoder(tmp_path: Path) -> None:
    train(people(40, 12), ShapeConfig(epochs=2, roll=True), tmp_path)
    model = load(tmp_path / "shape.pt")
    assert model.encoder[0].in_features == 13
    assert canonical(model, rotated(HEAD, 20)[None]).shape == (1, 5, 2)


def test_training_needs_frontal_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pictures from the front"):
        train(people(20, 2), ShapeConfig(), tmp_path)


def test_written_chunks_are_read_unchanged(tmp_path: Path) -> None:
    landmarks = people(3, 5)
    count = write_chunks(zip(landmarks.identities, landmarks.points, strict=True), tmp_path, chunk_faces=4)
    assert count == 15
    assert len(list(tmp_path.glob("chunk-*.npz"))) == 4
    stored = read_chunks(tmp_path)
    assert stored.identities == landmarks.identities
    np.testing.assert_array_equal(stored.points, landmarks.points)
    with pytest.raises(ConfigError, match="shape chunks"):
        read_chunks(tmp_path / "nothing")


def test_yaw_bins_count_every_pair_once() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16))
    embeddings = np.repeat(centres, 4, axis=0) + rng.normal(0, 0.3, (160, 16))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    names = [f"{row // 4}" for row in range(160)]
    yaw = np.tile([0, 20, 40, 60], 40).astype(np.float32)
    bins = by_yaw(embeddings.astype(np.float32), names, yaw)
    assert [one.genuine for one in bins] == [0, 40, 80, 120]  # 1, 2 and 3 other pictures have a smaller yaw
    assert sum(one.genuine + one.impostor for one in bins) == 160 * 159 // 2
    assert sum(one.fmr * one.impostor for one in bins) / sum(one.impostor for one in bins) <= 1e-3 + 1e-9


def test_the_commands_from_crops_to_a_report(ten_people: Path, tmp_path: Path) -> None:
    work = ["--work", str(tmp_path / "work")]
    arguments = ["shape", "chunks", "--identities", str(ten_people), "--output", str(tmp_path / "chunks"), *work]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert int(result.stdout.split()[-4].replace(",", "")) > 15
    synthetic = people(60, 12)
    write_chunks(zip(synthetic.identities, synthetic.points, strict=True), tmp_path / "synthetic")
    (tmp_path / "shape.yaml").write_text(json.dumps({"epochs": 3}))
    arguments = ["shape", "train", "--chunks", str(tmp_path / "synthetic"), "--config", str(tmp_path / "shape.yaml")]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "shape")], catch_exceptions=False)
    assert "| autoencoder |" in result.stdout
    arguments = [
        "shape",
        "report",
        "--identities",
        str(ten_people),
        "--shape",
        str(tmp_path / "shape" / "shape.pt"),
        *work,
    ]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "report")], catch_exceptions=False)
    assert "| 0 to 15 |" in result.stdout
    assert (tmp_path / "report" / "yaw.png").stat().st_size > 5_000


def test_chunks_are_collected_from_parquet_files(tmp_path: Path) -> None:
    def stored(path: Path) -> dict[str, object]:
        buffer = io.BytesIO()
        Image.fromarray(pixels(path)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    rows = [{"image": stored(COLLINS), "label": "collins"}, {"image": stored(HOPPER), "label": "hopper"}]
    rows.append({"image": {"bytes": b"no picture", "path": None}, "label": "nobody"})
    schema = {"image": pl.Struct({"bytes": pl.Binary, "path": pl.String}), "label": pl.String}
    pl.DataFrame(rows, schema=schema).write_parquet(tmp_path / "faces.parquet")
    arguments = ["shape", "chunks", "--source", str(tmp_path / "faces.parquet"), "--output", str(tmp_path / "chunks")]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert read_chunks(tmp_path / "chunks").identities == ["collins", "hopper"]
