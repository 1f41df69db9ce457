"""Prepares photos: detects, aligns, caches by content, and reports failures."""

import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from service.inference.detector import YoloFaceDetector
from service.inference.engine import FaceChoice
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from service.vision.alignment import TEMPLATE_112
from service.vision.filters import Clahe, Filters
from service.vision.geometry import letterbox
from tests.photos import BUS, COLLINS, HOPPER, pixels
from trainer.__main__ import app
from trainer.archives import unpack
from trainer.choices import CropKind, FinderName
from trainer.configuration import ConfigError
from trainer.datasets.folders import read_folder
from trainer.datasets.label_table import read_table
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.alignment import Recipe
from trainer.embedder.preparation import Preparation, prepare
from trainer.embedder.sources import assign_targets
from trainer.finders import Finder, Mtcnn

YOLO = Finder(FinderName.YOLO, BUNDLES / "detector")
ONLY = Recipe(FaceChoice.ONLY)


def prepared(photos: Path, output: Path, recipe: Recipe) -> Preparation:
    return prepare(assign_targets(read_folder(photos), output), output, YOLO, recipe)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name, path in {"a": COLLINS, "b": HOPPER, "c": BUS}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(path, tmp_path / "photos" / name / f"1{path.suffix}")
    (tmp_path / "photos" / "a" / "2.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_photos_become_aligned_crops(photos: Path, tmp_path: Path) -> None:
    result = prepared(photos, tmp_path / "crops", ONLY)
    assert (result.written, result.cached) == (2, 0)
    assert [path.name for path, _ in result.failures] == ["2.jpg", "1.jpg"]
    assert "2 faces" in (tmp_path / "crops" / "failures.csv").read_text()
    assert all((tmp_path / "crops" / name).stat().st_size > 1_000 for name in ("samples.jpg", "failures.jpg"))
    crops = load_aligned_crops(tmp_path / "crops", None, tmp_path / "cache")
    assert crops.identities == ["a", "b"]
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())
    for crop in crops.pictures:
        square, boxing = letterbox(np.asarray(crop), 320)
        (face,) = detector.detect([square])[0][:1]
        assert face.landmarks is not None
        np.testing.assert_allclose(boxing.undo(face.landmarks[:, :2]), TEMPLATE_112 + 24, atol=6)


def test_results_are_cached_by_content(photos: Path, tmp_path: Path) -> None:
    prepared(photos, tmp_path / "crops", ONLY)
    target = tmp_path / "crops" / "a" / "1.webp"
    before = target.stat().st_mtime_ns
    shutil.copy(HOPPER, photos / "a" / "3.jpg")
    second = prepared(photos, tmp_path / "crops", ONLY)
    assert (second.written, second.cached, len(second.failures)) == (3, 4, 2)
    assert target.stat().st_mtime_ns == before
    target.unlink()
    assert prepared(photos, tmp_path / "crops", ONLY).cached == 4
    (photos / "a" / "2.jpg").write_bytes(HOPPER.read_bytes())  # other content under the same name
    assert prepared(photos, tmp_path / "crops", ONLY).written == 4
    other = prepare(
        assign_targets(read_folder(photos), tmp_path / "crops"), tmp_path / "crops", YOLO, Recipe(crop=CropKind.BOX)
    )
    assert other.cached == 0


def test_two_processes_write_the_same_crops_as_one(tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(33):
        brightened = (pixels(COLLINS).astype(np.float32) * (0.6 + number / 100)).clip(0, 255).astype(np.uint8)
        Image.fromarray(brightened).save(tmp_path / "photos" / "a" / f"{number}.jpg")
    results = []
    for count in (1, 2):
        faces = assign_targets(read_folder(tmp_path / "photos"), tmp_path / f"{count}")
        results.append(prepare(faces, tmp_path / f"{count}", YOLO, Recipe(), workers=count))
    assert [result.written for result in results] == [33, 33]
    for path in sorted((tmp_path / "1" / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "2" / "a" / path.name).read_bytes()


def test_box_crops_are_padded_and_filters_applied(photos: Path, tmp_path: Path) -> None:
    def crop(name: str, recipe: Recipe) -> np.ndarray:
        prepared(photos, tmp_path / name, recipe)
        with Image.open(tmp_path / name / "a" / "1.webp") as picture:
            return np.asarray(picture.convert("RGB"))

    narrow, wide = (crop(f"{padding}", Recipe(crop=CropKind.BOX, padding=padding)) for padding in (0.0, 0.5))
    zoomed = cv2.resize(wide[40:120, 40:120], (160, 160))  # twice the side, the same centre
    assert np.abs(zoomed.astype(int) - narrow).mean() < 12
    plain, equal = crop("plain", Recipe()), crop("clahe", Recipe(filters=Filters(clahe=Clahe(clip_limit=4))))
    assert np.abs(plain.astype(int) - equal).mean() > 5


def test_mtcnn_agrees_with_the_shipped_detector() -> None:
    shipped = YOLO().detect([pixels(COLLINS)])[0]
    (other,) = Mtcnn().detect([pixels(COLLINS)])[0]
    assert other.landmarks is not None
    assert shipped[0].landmarks is not None
    eyes = np.linalg.norm(shipped[0].landmarks[0, :2] - shipped[0].landmarks[1, :2])
    assert np.abs(other.landmarks[:, :2] - shipped[0].landmarks[:, :2]).max() < 0.25 * eyes
    assert Mtcnn().detect([np.zeros((16, 16, 3), np.uint8)]) == [[]]


@pytest.mark.skipif("MEDIAPIPE_MODEL" not in os.environ, reason="MEDIAPIPE_MODEL= names no face_landmarker.task")
def test_mediapipe_agrees_with_the_shipped_detector() -> None:
    shipped = YOLO().detect([pixels(COLLINS)])[0]
    finder = Finder(FinderName.MEDIAPIPE, Path(os.environ["MEDIAPIPE_MODEL"]))()
    (other,) = finder.detect([pixels(COLLINS)])[0]
    assert other.landmarks is not None
    assert shipped[0].landmarks is not None
    eyes = np.linalg.norm(shipped[0].landmarks[0, :2] - shipped[0].landmarks[1, :2])
    assert np.abs(other.landmarks[:, :2] - shipped[0].landmarks[:, :2]).max() < 0.3 * eyes


def test_missing_detector_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--model-file"):
        Finder(FinderName.MEDIAPIPE, None)
    with pytest.raises(ConfigError, match="no such model"):
        Finder(FinderName.YUNET, tmp_path / "yunet.onnx")
    (tmp_path / "other.task").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="not a face landmarker's"):
        Finder(FinderName.MEDIAPIPE, tmp_path / "other.task")()


def test_command_selects_the_finder_by_name(photos: Path, tmp_path: Path) -> None:
    arguments = [
        "prepare",
        "--photos",
        str(photos),
        "--output",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
    ]
    done = CliRunner().invoke(app, [*arguments, "--finder", "mtcnn", "--face", "only"], catch_exceptions=False)
    assert "2 aligned crops" in done.stdout
    wrong = CliRunner().invoke(app, [*arguments, "--finder", "retina"])
    assert wrong.exit_code == 2
    assert all(name in wrong.output for name in ("'retina'", "'yolo'", "'yunet'", "'mtcnn'", "'mediapipe'"))


def test_boxes_assign_faces_to_identities(photos: Path, tmp_path: Path) -> None:
    width = 400
    two = np.concatenate([cv2.resize(pixels(path), (width, 400)) for path in (COLLINS, HOPPER)], axis=1)
    Image.fromarray(two).save(photos / "two.png")
    detected = sorted(YOLO().detect([two])[0][:2], key=lambda face: face.box[0])
    rows = [("photo", "identity", "x_min", "y_min", "x_max", "y_max")]
    rows += [("two.png", name, *face.box) for name, face in zip(("eileen", "grace"), detected, strict=True)]
    rows.append(("two.png", "nobody", 0, 300, 60, 360))  # without a detected face the box itself is cut out
    table = tmp_path / "boxes.csv"
    table.write_text("\n".join(",".join(str(cell) for cell in row) for row in rows))
    out = tmp_path / "crops"
    result = prepare(assign_targets(read_table(table, photos), out), out, YOLO, Recipe())
    assert result.written == 3
    crops = load_aligned_crops(out, None, tmp_path / "cache")
    assert crops.identities == ["eileen", "grace", "nobody"]
    assert np.abs(crops.pictures[0].astype(int) - crops.pictures[1]).mean() > 20
    for text, message in (
        ("photo,identity\n", "lists no photo"),
        ("photo,x_min\n", "no column identity"),
        ("photo,identity,x_min\n", "no column y_min, x_max, y_max"),
        (f"{','.join(rows[0])}\ntwo.png,eileen,1,2,3,x\n", "line 2: the box is not four numbers"),
        (f"{','.join(rows[0])}\ntwo.png,eileen,10,2,3,5\n", "line 2: the box has no area"),
        (f"{','.join(rows[0])}\ntwo.png,../x,1,2,3,5\n", "line 2: the identity '../x' is not a folder name"),
    ):
        table.write_text(text)
        with pytest.raises(ConfigError, match=message):
            assign_targets(read_table(table, photos), out)


def test_another_recipe_replaces_all_crops(tmp_path: Path) -> None:
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for name, path in (("1.jpg", COLLINS), ("1.png", HOPPER)):
        Image.fromarray(pixels(path)).save(tmp_path / "photos" / "a" / name)
    out = tmp_path / "crops"
    assert prepared(tmp_path / "photos", out, Recipe()).written == 2
    first = load_aligned_crops(out, None, tmp_path / "cache")
    assert np.abs(first.pictures[0].astype(int) - first.pictures[1]).mean() > 20
    prepared(tmp_path / "photos", out, Recipe(crop=CropKind.BOX, padding=0.6))
    second = load_aligned_crops(out, None, tmp_path / "cache")  # same names, other pictures
    assert np.abs(first.pictures[0].astype(int) - second.pictures[0]).mean() > 5
    assert first.key != second.key
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "photos" / "a" / "1.jpg")
    assert prepared(tmp_path / "photos", out, Recipe(FaceChoice.ONLY)).written == 1
    assert len(list(out.glob("a/*.webp"))) == 1


def test_archives_are_extracted_into_separate_folders(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}/1.jpg", COLLINS.read_bytes())
    folders = [unpack([tmp_path / f"{name}.zip"], tmp_path / "work") for name in ("one", "two")]
    assert [[path.name for path in folder.iterdir() if path.is_dir()] for folder in folders] == [["one"], ["two"]]


def test_every_crop_has_its_own_file(tmp_path: Path) -> None:
    for name in ("1.jpg", "1.png", "1-2.jpg", "1-2.png"):
        (tmp_path / "photos" / "ada").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "ada" / name).touch()
    targets = [source.target.name for source in assign_targets(read_folder(tmp_path / "photos"), tmp_path)]
    assert len(set(targets)) == 4


def test_key_of_a_finder_depends_on_the_content_of_its_model(tmp_path: Path) -> None:
    for name in ("here", "there"):
        shutil.copytree(BUNDLES / "detector", tmp_path / name)
    first, second = (Finder(FinderName.YOLO, tmp_path / name) for name in ("here", "there"))
    assert first.key == second.key == Finder(FinderName.YOLO, None).key
    manifest = tmp_path / "there" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("{", "{ ", 1))
    assert first.key != second.key
