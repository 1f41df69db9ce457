"""Training of the landmark refiner: samples, loss, training and export."""

import math
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.inference.bundle import read_detector
from service.inference.detector import YoloFaceDetector
from service.inference.graph import RuntimeOptions
from service.inference.landmarks import LandmarkRefiner
from service.runtime.settings import BUNDLES
from tests.photos import COLLINS, HOPPER, pixels
from trainer.configuration import ConfigError
from trainer.landmarks import export, training
from trainer.landmarks.config import LandmarkConfig
from trainer.landmarks.faces import Faces, Kind
from trainer.landmarks.model import EYES, Deployed, laplace_loss
from trainer.landmarks.model import LandmarkRefiner as Net
from trainer.landmarks.restoration import restore
from trainer.landmarks.samples import Samples, mirrored, rough_crop, template


def test_the_loss_is_minimal_at_half_the_error() -> None:
    """For a Laplace distribution in the plane, 2 log b + d / b is minimal at b = d / 2."""
    points = torch.zeros(1, 5, 2)
    wrong = torch.cat([torch.full((1, 5, 1), 0.1), torch.zeros(1, 5, 1)], dim=2)
    losses = {
        scale: float(laplace_loss(torch.cat([wrong, torch.full((1, 5, 1), math.log(scale))], dim=2), points))
        for scale in (0.02, 0.05, 0.12)
    }
    assert min(losses, key=losses.__getitem__) == 0.05


def test_mirroring_twice_restores_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (160, 160, 3), np.uint8)
    points = template(160)
    once_picture, once = mirrored(picture, points)
    assert once[0, 0] < once[1, 0]
    assert once[3, 0] < once[4, 0]
    back, twice = mirrored(once_picture, once)
    assert (back == picture).all()
    np.testing.assert_allclose(twice, points)


def test_a_rough_crop_reports_the_true_landmarks() -> None:
    """A white dot on a landmark of a black picture is at the reported position in the crop."""
    points = template(160)
    for number in range(5):
        picture = np.zeros((160, 160, 3), np.uint8)
        x, y = points[number].round().astype(int)
        picture[y - 2 : y + 3, x - 2 : x + 3] = 255
        config = LandmarkConfig()
        crop, inside = rough_crop(picture, points, config, np.random.default_rng(number))
        weight = crop[..., 0].astype(float)
        rows, columns = np.indices(weight.shape)
        centre = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(centre, inside[number], atol=1)


def test_only_training_samples_are_augmented(faces: Faces) -> None:
    config = LandmarkConfig()
    augmented, fixed = Samples(faces, config, augmented=True), Samples(faces, config, augmented=False)
    assert not torch.equal(augmented[0][0], augmented[0][0])
    assert torch.equal(fixed[0][0], fixed[0][0])
    assert fixed[0][1].shape == (5, 2)
    assert fixed[0][2] == Kind.LANDMARKED


def test_a_file_that_is_not_a_checkpoint_is_rejected(faces: Faces, tmp_path: Path) -> None:
    (tmp_path / "wrong.ckpt").write_text("nothing")
    config = LandmarkConfig(input_size=32, width=4, batch_size=2)
    with pytest.raises(ConfigError, match=r"wrong\.ckpt is not a checkpoint of `identity-trainer landmarks train`"):
        training.train(config, faces, faces, tmp_path / "run", tmp_path / "wrong.ckpt")


def test_loading_a_checkpoint_executes_no_code(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"state_dict": Attack()}, tmp_path / "hostile.ckpt")
    with pytest.raises(ConfigError, match="is not a checkpoint"):
        training.load_weights(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "executed").exists()


def test_only_ultralytics_checkpoints_are_loaded_as_objects() -> None:
    """Every other call of `torch.load` has `weights_only=True`, so that a checkpoint cannot execute code."""
    root = Path(training.__file__).parents[2]
    sources = {file: file.read_text() for folder in ("trainer", "tools") for file in (root / folder).rglob("*.py")}
    loads = {
        (file.relative_to(root).as_posix(), call)
        for file, source in sources.items()
        for call in re.findall(r"(?:torch\.load|load_from_checkpoint|ckpt_path=)[^\n]*", source)
    }
    unsafe = {(name, call) for name, call in loads if "weights_only=True" not in call}
    assert {name for name, _ in unsafe} == {"trainer/detector/export.py"}, unsafe


@pytest.mark.slow
def test_a_checkpoint_is_restored_without_executing_it(faces: Faces, tmp_path: Path) -> None:
    config = LandmarkConfig(input_size=32, width=4, epochs=1, batch_size=8, workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        training.train(config, faces, faces, tmp_path)
        training.train(config, faces, faces, tmp_path, resume=True)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


@pytest.mark.slow
def test_a_trained_refiner_is_exported_and_refines(faces: Faces, tmp_path: Path) -> None:
    config = LandmarkConfig(input_size=32, width=8, epochs=30, batch_size=8, workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        best = training.train(config, faces, faces, tmp_path / "run")
        settings = tmp_path / "landmarks.yaml"
        settings.write_text("input_size: 32\nwidth: 8\n")
        bundle = tmp_path / "bundle"
        shutil.copytree(BUNDLES / "detector", bundle)
        manifest = export.export(best, settings, bundle)
        assert export.export(best, settings, bundle) == manifest  # replaces the first one
    errors = [line.split(",")[1] for line in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    logged = [float(error) for error in errors if error]
    assert logged[-1] < logged[0] / 2
    assert manifest.landmark_stage is not None

    net = training.load(best, config)
    crops = np.stack(
        [sample[0].numpy() for sample in (Samples(faces, config, augmented=False)[row] for row in range(4))]
    )
    eager = Deployed(net).eval()(torch.from_numpy(crops).float()).detach().numpy()
    refiner = LandmarkRefiner(bundle, manifest.landmark_stage, RuntimeOptions())
    np.testing.assert_allclose(refiner._graph.run(crops.astype(np.float32)), eager, atol=2e-2)
    confidences = np.concatenate([eager[:, 2:15:3], eager[:, 15:]], axis=1)
    assert ((confidences > 0) & (confidences <= 1)).all()

    results = YoloFaceDetector(bundle, RuntimeOptions()).detect([pixels(COLLINS), pixels(HOPPER)])
    for detections in results:
        landmarks = detections[0].landmarks
        assert landmarks is not None
        left, top, right, bottom = detections[0].box
        assert ((landmarks[:, :2] > [left, top]) & (landmarks[:, :2] < [right, bottom])).all()


def test_the_shipped_refiner_is_restored_with_the_same_outputs_in_both_modes() -> None:
    """In training mode, batch normalisation uses the statistics of the batch, which are those of the restored model."""
    config, bundle = LandmarkConfig.load(Path("configs/landmarks-fine.yaml")), BUNDLES / "detector"
    crops = torch.from_numpy(np.stack([pixels(HOPPER)[:96, x : x + 96].transpose(2, 0, 1) for x in range(0, 240, 8)]))
    model = Deployed(restore(bundle, config, crops))
    stage = read_detector(bundle).landmark_stage
    assert stage is not None
    served = LandmarkRefiner(bundle, stage, RuntimeOptions())._graph.run(crops.numpy().astype(np.float32))
    with torch.no_grad():
        for restored in (model.eval(), model.train()):
            np.testing.assert_allclose(restored(crops.float()).numpy(), served, atol=2e-3)


def test_a_refiner_of_another_width_is_not_restored() -> None:
    crops = torch.zeros(2, 3, 96, 96, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="another input_size or width"):
        restore(BUNDLES / "detector", LandmarkConfig(width=16), crops)


def test_the_shapes_of_the_network_outputs() -> None:
    outputs, logits = Net(32, 4)(torch.zeros(3, 3, 32, 32))
    assert outputs.shape == (3, 5, 3)
    assert logits.shape == (3,)
    assert pytest.approx(0.22, abs=0.01) == EYES
