"""Trains and exports small embedders on real faces."""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from service.inference.bundle import read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from tests.trainer.conftest import one_thread
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.aligned_crops import CENTRE_SIZE, CROP_SIZE, load_aligned_crops
from trainer.embedder.augmentation import Augmentation, centre_tensor
from trainer.embedder.backbones import build_encoder
from trainer.embedder.backbones.mobilefacenet import ConvUnit
from trainer.embedder.checkpoints import load_encoder, load_initial
from trainer.embedder.config import AugmentationConfig, EmbedderConfig, StageConfig
from trainer.embedder.embedding import embed_crops
from trainer.embedder.formats import Format, require_parity, runner
from trainer.embedder.loss_config import LossesConfig, LossTerm
from trainer.embedder.split import Part, part_of
from trainer.embedder.teacher import teacher_embeddings

CONFIG = EmbedderConfig.model_validate(
    {
        "backbone": "residual_small",
        "embedding_dim": 16,
        "compile": False,
        "precision": "32-true",
        "split": {"validation": 0.0, "calibration": 0.0},
        "stages": [
            {
                "name": "batch-hard",
                "epochs": 15,
                "batch_size": 8,
                "images_per_identity": 4,
                "learning_rate": 1e-3,
                "losses": {"triplet": 1.0},
            }
        ],
    }
)


@pytest.fixture(autouse=True)
def _ignore_lightning_hints() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints on loaders, loggers and precision
        yield


@pytest.fixture(scope="session")
def trained(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crops = load_aligned_crops(identity_folder, None, folder / "cache")
        return training.train(CONFIG, crops, None, folder / "cache", folder / "run")


def embed(checkpoint: Path, folder: Path, cache: Path) -> tuple[np.ndarray, list[str]]:
    encoder, _ = load_encoder(checkpoint)
    crops = load_aligned_crops(folder, None, cache)
    with torch.inference_mode():
        pixels = centre_tensor(torch.from_numpy(np.array(crops.pictures)))
        return torch.nn.functional.normalize(encoder(pixels)).numpy(), crops.identities


def test_batch_hard_training_separates_two_people(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    embeddings, names = embed(trained, identity_folder, tmp_path)
    scores = embeddings @ embeddings.T
    same = np.equal.outer(names, names)
    assert scores[same].min() > scores[~same].max()


def test_same_seed_produces_same_weights(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    again = training.train(CONFIG, crops, None, tmp_path / "cache", tmp_path / "run")
    for one, other in zip(load_encoder(trained)[0].parameters(), load_encoder(again)[0].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_finished_run_is_not_trained_again(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    before = trained.stat().st_mtime_ns
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    assert training.train(CONFIG, crops, None, tmp_path, trained.parents[1]) == trained
    assert trained.stat().st_mtime_ns == before


def test_bundle_produces_the_embeddings_of_the_model(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    provenance = {"data": ["two people"], "terms": "test", "initialised_from": "random"}
    export.export(trained, tmp_path / "bundle", "tiny-test", provenance)
    manifest = read_embedder(tmp_path / "bundle")
    assert (manifest.embedding_dim, manifest.calibration) == (16, None)
    eager, _ = embed(trained, identity_folder, tmp_path / "cache")
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    centres = [np.asarray(picture[24:136, 24:136]) for picture in crops.pictures]
    for backend in ("openvino", "onnxruntime"):
        embedder = FaceEmbedder(tmp_path / "bundle", RuntimeOptions(backend))  # type: ignore[arg-type]
        object.__setattr__(embedder.manifest, "mirror_average", False)
        assert (embedder.embed(centres) * eager).sum(axis=1).min() > 0.9999


@pytest.mark.timeout(300)
def test_every_format_produces_the_embeddings_of_the_model(
    trained: Path, identity_folder: Path, tmp_path: Path
) -> None:
    """Runs in another process, since the converters change loggers and warnings."""
    arguments = ["export", "--checkpoint", trained, "--model-id", "tiny-test", "--output", tmp_path / "bundle"]
    arguments += ["--crops", identity_folder, "--work", tmp_path / "work", *(f"--also={kind}" for kind in Format)]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *(str(argument) for argument in arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in (tmp_path / "bundle" / "formats.md").read_text().splitlines()[2:]]
    assert [row[0] for row in rows] == ["onnx", *Format]
    encoder, _ = load_encoder(trained)
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    pixels = centre_tensor(torch.from_numpy(np.array(crops.pictures))).numpy()
    for kind, (_, file, megabytes, cosine, milliseconds) in zip(Format, rows[1:], strict=True):
        assert float(cosine) > (0.8 if kind is Format.LITERT_INT8 else 0.9999)
        assert float(megabytes) > 0.1
        assert float(milliseconds) > 0
        run = runner(kind, tmp_path / "bundle" / file)
        with pytest.raises(ValueError, match="differ from those of the PyTorch model"):
            require_parity(encoder, kind, lambda pixels, run=run: run(pixels[..., ::-1].copy()), pixels)
    with pytest.raises(ConfigError, match="--crops"):
        export.export(trained, tmp_path / "other", "tiny-test", {}, [Format.OPENVINO])


def test_published_weights_produce_the_published_embeddings(tmp_path: Path) -> None:
    original = build_encoder("mobilefacenet", 32)
    for module in original.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    pixels = torch.rand(1, 3, CENTRE_SIZE, CENTRE_SIZE)
    published = tmp_path / "published.onnx"
    torch.onnx.export(original.eval(), (pixels,), published, dynamo=False)  # folds the batch norms
    encoder = build_encoder("mobilefacenet", 32)
    load_initial(encoder, published)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.eval()(pixels), original(pixels), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="does not have the backbone's architecture"):
        load_initial(build_encoder("mobilefacenet", 64), published)


def test_frozen_batch_norms_keep_their_statistics(identity_folder: Path, tmp_path: Path) -> None:
    stage = CONFIG.stages[0].model_copy(update={"epochs": 1, "freeze_batch_norm": True})
    config = CONFIG.model_copy(update={"stages": [stage]})
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    encoder, _ = load_encoder(training.train(config, crops, None, tmp_path, tmp_path / "run"))
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all((norm.running_var == 1).all() for norm in norms)
    assert any((norm.weight != 1).any() for norm in norms)


def test_margin_softmax_separates_two_people(identity_folder: Path, tmp_path: Path) -> None:
    losses = {"arcface": {"scale": 16.0}}
    stage = StageConfig.model_validate({**CONFIG.stages[0].model_dump(), "losses": losses})
    config = CONFIG.model_copy(update={"stages": [stage]})
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    best = training.train(config, crops, None, tmp_path, tmp_path / "run")
    embeddings, names = embed(best, identity_folder, tmp_path)
    scores = embeddings @ embeddings.T
    same = np.equal.outer(names, names)
    assert scores[same].mean() > scores[~same].mean() + 0.5


def test_distillation_without_a_teacher_is_rejected(identity_folder: Path, tmp_path: Path) -> None:
    stage = CONFIG.stages[0].model_copy(update={"losses": LossesConfig(embedding=LossTerm())})
    config = EmbedderConfig.model_validate({**CONFIG.model_dump(), "stages": [stage.model_dump()]})
    with pytest.raises(ValueError, match="--teacher"):
        training.train(config, load_aligned_crops(identity_folder, None, tmp_path), None, tmp_path, tmp_path / "run")


@pytest.mark.parametrize("name", ["embedder", "embedder-fairface"])
def test_bundle_graph_serves_as_teacher_and_as_initial_weights(
    identity_folder: Path, tmp_path: Path, name: str
) -> None:
    bundle = BUNDLES / name
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    targets = teacher_embeddings(bundle / "model.onnx", crops, tmp_path)
    served = embed_crops(FaceEmbedder(bundle, RuntimeOptions()), crops, list(range(len(crops))))[0]
    assert (targets * served).sum(axis=1).min() > 0.9  # the teacher's embedding is the mean with the mirror picture
    encoder = build_encoder("mobilefacenet", 128).eval()
    load_initial(encoder, bundle / "model.onnx")
    with torch.inference_mode():
        pixels = centre_tensor(torch.from_numpy(np.asarray(crops.pictures)))
        loaded = torch.nn.functional.normalize(encoder(pixels)).numpy()
    assert (loaded * served).sum(axis=1).min() > 0.999


def test_teacher_with_another_input_is_rejected(identity_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not accept \(1, 3, 112, 112\) input"):
        teacher_embeddings(
            BUNDLES / "detector" / "landmarks.onnx", load_aligned_crops(identity_folder, None, tmp_path), tmp_path
        )


def test_augmentation_with_zero_ranges_returns_the_centre() -> None:
    still = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=0, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    crops = torch.randint(0, 256, (3, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8)
    torch.testing.assert_close(Augmentation(still)(crops), centre_tensor(crops), atol=1e-4, rtol=0)


def test_augmentation_stays_in_range_and_mirrors() -> None:
    crops = torch.randint(0, 256, (16, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8)
    changed = Augmentation(AugmentationConfig(low_resolution=1, occlusion=1, light=0.5))(crops)
    assert changed.shape == (16, 3, CENTRE_SIZE, CENTRE_SIZE)
    assert float(changed.abs().max()) <= 1
    mirror = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=1, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    expected = centre_tensor(crops).flip(-1)
    torch.testing.assert_close(Augmentation(mirror)(crops), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "change", [{"bckbone": "x"}, {"stages": []}, {"precision": "fp8"}, {"split": {"validation": 2}}]
)
def test_invalid_configuration_is_rejected(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EmbedderConfig.model_validate({**CONFIG.model_dump(), **change})


def test_shipped_configuration_ends_with_batch_hard() -> None:
    last = EmbedderConfig.load(Path(__file__).parents[2] / "configs" / "train.yaml").stages[-1]
    assert last.losses.triplet is not None
    assert last.losses.triplet.mining == "batch-hard"
    assert last.images_per_identity


def test_held_out_people_do_not_train(identity_folder: Path, tmp_path: Path) -> None:
    from trainer.embedder.config import SplitConfig
    from trainer.embedder.data import FaceData

    split = SplitConfig(validation=0.5, calibration=0.5)
    stage = CONFIG.stages[0].model_copy(update={"images_per_identity": None})
    data = FaceData(load_aligned_crops(identity_folder, None, tmp_path), None, split, stage)
    assert len(data.training_rows) == 0
    names = {data.crops.identities[row] for row in data.validation_rows}
    assert names == {name for name in ("collins", "hopper") if part_of(name, split) is Part.VALIDATION}


def test_killed_run_resumes_from_its_last_epoch(identity_folder: Path, tmp_path: Path) -> None:
    import os

    import yaml

    from tests.server import wait_for

    stage = {**CONFIG.stages[0].model_dump(), "epochs": 12}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({**CONFIG.model_dump(mode="json"), "stages": [stage]}))
    options = {"--identities": identity_folder, "--config": "train.yaml", "--work": "work"}
    arguments = [str(part) for item in options.items() for part in item]
    command, uninterrupted_command = (
        [sys.executable, "-m", "trainer", "train", *arguments, "--output", folder]
        for folder in ("run", "uninterrupted")
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    last = tmp_path / "run" / "1-batch-hard" / "last.ckpt"
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        wait_for(lambda: last.exists() or first.poll() is not None, 120)
        first.kill()
    assert not last.with_name("finished.json").exists()
    before = torch.load(last, map_location="cpu", weights_only=True)["epoch"]
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "Restored all states" in second.stderr
    assert last.with_name("finished.json").exists()
    resumed = torch.load(last, map_location="cpu", weights_only=True)
    assert resumed["epoch"] == 11 > before
    # Also in another process: other tests may have changed the number of threads, which changes the order of sums.
    subprocess.run(uninterrupted_command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    uninterrupted = torch.load(
        tmp_path / "uninterrupted" / "1-batch-hard" / "last.ckpt", map_location="cpu", weights_only=True
    )
    for name, weights in uninterrupted["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], weights, atol=1e-6, rtol=1e-6)


def test_too_few_people_for_a_batch_are_rejected(identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    for change, message in (
        ({"batch_size": 512}, "lower batch_size"),
        ({"batch_size": 12}, "lower batch_size to 8 or less"),
    ):
        config = CONFIG.model_copy(update={"stages": [CONFIG.stages[0].model_copy(update=change)]})
        with pytest.raises(ConfigError, match=message):
            training.train(config, crops, None, tmp_path, tmp_path / f"run-{change['batch_size']}")


def test_run_accepts_a_copy_of_its_pictures_and_rejects_others(
    trained: Path, identity_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(identity_folder, tmp_path / "again", copy_function=shutil.copyfile)
    crops = load_aligned_crops(tmp_path / "again", None, tmp_path)
    assert training.train(CONFIG, crops, None, tmp_path, trained.parents[1]) == trained
    next((tmp_path / "again").glob("*/*")).write_bytes(next(identity_folder.glob("*/*")).read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match="contains a run with other pictures"):
        training.train(
            CONFIG, load_aligned_crops(tmp_path / "again", None, tmp_path), None, tmp_path, trained.parents[1]
        )


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 no zip"])
def test_file_that_is_no_checkpoint_is_rejected(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    for load in (
        lambda: load_encoder(tmp_path / "weights.pt"),
        lambda: load_initial(nn.Identity(), tmp_path / "weights.pt"),
    ):
        with pytest.raises(ConfigError, match="neither a checkpoint nor a state dict"):
            load()
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigError, match="contains a list"):
        load_encoder(tmp_path / "list.pt")


def test_folder_of_another_run_is_rejected(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    config = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(ConfigError, match="contains a run with other config"):
        training.train(config, crops, None, tmp_path, trained.parents[1])


def test_graph_with_other_activations_is_rejected(tmp_path: Path) -> None:
    class Leaky(torch.nn.LeakyReLU):
        def __init__(self) -> None:
            super().__init__(0.3)

    other = build_encoder("mobilefacenet", 32).eval()
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.bias)
        if isinstance(module, ConvUnit) and len(module) == 3:
            module[2] = Leaky()
    graph = tmp_path / "leaky.onnx"
    torch.onnx.export(other, (torch.rand(1, 3, CENTRE_SIZE, CENTRE_SIZE),), graph, dynamo=False)
    with pytest.raises(ValueError, match="computes something else"):
        load_initial(build_encoder("mobilefacenet", 32), graph)


def test_configuration_error_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("backbone: resnet18\nsurprise: 1\nstages: [{name: x, epochs: 0, learning_rate: 1, losses: {}}]\n")
    with pytest.raises(ConfigError) as raised:
        EmbedderConfig.load(path)
    assert "surprise: Extra inputs" in str(raised.value)
    assert "stages.0.epochs: Input should be greater" in str(raised.value)
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        EmbedderConfig.load(tmp_path / "missing.yaml")
