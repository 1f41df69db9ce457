"""Training, export and calibration of small real runs."""

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
from trainer.embedder.augmentation import Augmentation, middle
from trainer.embedder.backbones import build_encoder
from trainer.embedder.backbones.mobilefacenet import ConvUnit
from trainer.embedder.canvases import CANVAS, CROP, load_canvases
from trainer.embedder.checkpoints import load_encoder, load_initial
from trainer.embedder.config import AugmentationConfig, EmbedderConfig, StageConfig
from trainer.embedder.embedding import embed_canvases
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
def calm_lightning() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints on loaders, loggers and precision
        yield


@pytest.fixture(scope="session")
def trained(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvases = load_canvases(identity_folder, None, folder / "cache")
        return training.train(CONFIG, canvases, None, folder / "cache", folder / "run")


def embed(checkpoint: Path, folder: Path, cache: Path) -> tuple[np.ndarray, list[str]]:
    encoder, _ = load_encoder(checkpoint)
    canvases = load_canvases(folder, None, cache)
    with torch.inference_mode():
        pixels = middle(torch.from_numpy(np.array(canvases.pictures)))
        return torch.nn.functional.normalize(encoder(pixels)).numpy(), canvases.identities


def test_two_people_are_told_apart_after_batch_hard(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    embeddings, names = embed(trained, identity_folder, tmp_path)
    scores = embeddings @ embeddings.T
    same = np.equal.outer(names, names)
    assert scores[same].min() > scores[~same].max()


def test_the_same_seed_gives_the_same_weights(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    canvases = load_canvases(identity_folder, None, tmp_path / "cache")
    again = training.train(CONFIG, canvases, None, tmp_path / "cache", tmp_path / "run")
    for one, other in zip(load_encoder(trained)[0].parameters(), load_encoder(again)[0].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_finished_run_is_not_run_again(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    before = trained.stat().st_mtime_ns
    canvases = load_canvases(identity_folder, None, tmp_path)
    assert training.train(CONFIG, canvases, None, tmp_path, trained.parents[1]) == trained
    assert trained.stat().st_mtime_ns == before


def test_the_bundle_gives_the_models_embeddings(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    provenance = {"data": ["two people"], "terms": "test", "initialised_from": "random"}
    export.export(trained, tmp_path / "bundle", "tiny-test", provenance)
    manifest = read_embedder(tmp_path / "bundle")
    assert (manifest.embedding_dim, manifest.calibration) == (16, None)
    eager, _ = embed(trained, identity_folder, tmp_path / "cache")
    canvases = load_canvases(identity_folder, None, tmp_path / "cache")
    crops = [np.asarray(picture[24:136, 24:136]) for picture in canvases.pictures]
    for backend in ("openvino", "onnxruntime"):
        embedder = FaceEmbedder(tmp_path / "bundle", RuntimeOptions(backend))  # type: ignore[arg-type]
        object.__setattr__(embedder.manifest, "mirror_average", False)
        assert (embedder.embed(crops) * eager).sum(axis=1).min() > 0.9999


@pytest.mark.timeout(300)
def test_every_format_gives_the_models_embeddings(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    """In a process of its own: the converters change loggers and warnings of the one that they run in."""
    words = ["export", "--checkpoint", trained, "--model-id", "tiny-test", "--output", tmp_path / "bundle"]
    words += ["--crops", identity_folder, "--work", tmp_path / "work", *(f"--also={kind}" for kind in Format)]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *(str(word) for word in words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in (tmp_path / "bundle" / "formats.md").read_text().splitlines()[2:]]
    assert [row[0] for row in rows] == ["onnx", *Format]
    encoder, _ = load_encoder(trained)
    canvases = load_canvases(identity_folder, None, tmp_path / "cache")
    crops = middle(torch.from_numpy(np.array(canvases.pictures))).numpy()
    for kind, (_, file, megabytes, cosine, milliseconds) in zip(Format, rows[1:], strict=True):
        assert float(cosine) > (0.8 if kind is Format.LITERT_INT8 else 0.9999)
        assert float(megabytes) > 0.1
        assert float(milliseconds) > 0
        run = runner(kind, tmp_path / "bundle" / file)
        with pytest.raises(ValueError, match="differ from the model's"):
            require_parity(encoder, kind, lambda pixels, run=run: run(pixels[..., ::-1].copy()), crops)
    with pytest.raises(ConfigError, match="--crops"):
        export.export(trained, tmp_path / "other", "tiny-test", {}, [Format.OPENVINO])


def test_published_weights_are_taken_as_they_are(tmp_path: Path) -> None:
    original = build_encoder("mobilefacenet", 32)
    for module in original.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    pixels = torch.rand(1, 3, CROP, CROP)
    published = tmp_path / "published.onnx"
    torch.onnx.export(original.eval(), (pixels,), published, dynamo=False)  # folds the batch norms
    ours = build_encoder("mobilefacenet", 32)
    load_initial(ours, published)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(pixels), original(pixels), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="not the backbone's architecture"):
        load_initial(build_encoder("mobilefacenet", 64), published)


def test_frozen_batch_norms_keep_their_statistics(identity_folder: Path, tmp_path: Path) -> None:
    stage = CONFIG.stages[0].model_copy(update={"epochs": 1, "freeze_batch_norm": True})
    config = CONFIG.model_copy(update={"stages": [stage]})
    canvases = load_canvases(identity_folder, None, tmp_path)
    encoder, _ = load_encoder(training.train(config, canvases, None, tmp_path, tmp_path / "run"))
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all((norm.running_var == 1).all() for norm in norms)
    assert any((norm.weight != 1).any() for norm in norms)


def test_a_margin_softmax_is_a_loss_like_the_others(identity_folder: Path, tmp_path: Path) -> None:
    losses = {"arcface": {"scale": 16.0}}
    stage = StageConfig.model_validate({**CONFIG.stages[0].model_dump(), "losses": losses})
    config = CONFIG.model_copy(update={"stages": [stage]})
    canvases = load_canvases(identity_folder, None, tmp_path)
    best = training.train(config, canvases, None, tmp_path, tmp_path / "run")
    embeddings, names = embed(best, identity_folder, tmp_path)
    scores = embeddings @ embeddings.T
    same = np.equal.outer(names, names)
    assert scores[same].mean() > scores[~same].mean() + 0.5


def test_a_distilling_run_without_a_teacher_stops_before_it_starts(identity_folder: Path, tmp_path: Path) -> None:
    stage = CONFIG.stages[0].model_copy(update={"losses": LossesConfig(embedding=LossTerm())})
    config = EmbedderConfig.model_validate({**CONFIG.model_dump(), "stages": [stage.model_dump()]})
    with pytest.raises(ValueError, match="--teacher"):
        training.train(config, load_canvases(identity_folder, None, tmp_path), None, tmp_path, tmp_path / "run")


@pytest.mark.parametrize("name", ["embedder", "embedder-fairface"])
def test_training_goes_on_from_a_bundle_which_is_its_own_teacher(
    identity_folder: Path, tmp_path: Path, name: str
) -> None:
    bundle = BUNDLES / name
    canvases = load_canvases(identity_folder, None, tmp_path)
    taught = teacher_embeddings(bundle / "model.onnx", canvases, tmp_path)
    served = embed_canvases(FaceEmbedder(bundle, RuntimeOptions()), canvases, list(range(len(canvases))))[0]
    assert (taught * served).sum(axis=1).min() > 0.9  # the teacher's is the mean with the mirror picture
    encoder = build_encoder("mobilefacenet", 128).eval()
    load_initial(encoder, bundle / "model.onnx")
    with torch.inference_mode():
        crops = middle(torch.from_numpy(np.asarray(canvases.pictures)))
        again = torch.nn.functional.normalize(encoder(crops)).numpy()
    assert (again * served).sum(axis=1).min() > 0.999


def test_a_graph_that_takes_other_pictures_is_no_teacher(identity_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes no \(1, 3, 112, 112\) pictures"):
        teacher_embeddings(
            BUNDLES / "detector" / "landmarks.onnx", load_canvases(identity_folder, None, tmp_path), tmp_path
        )


def test_no_augmentation_is_the_middle_crop() -> None:
    still = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=0, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    canvases = torch.randint(0, 256, (3, CANVAS, CANVAS, 3), dtype=torch.uint8)
    torch.testing.assert_close(Augmentation(still)(canvases), middle(canvases), atol=1e-4, rtol=0)


def test_augmentation_stays_in_range_and_flips() -> None:
    canvases = torch.randint(0, 256, (16, CANVAS, CANVAS, 3), dtype=torch.uint8)
    changed = Augmentation(AugmentationConfig(low_resolution=1, occlusion=1, light=0.5))(canvases)
    assert changed.shape == (16, 3, CROP, CROP)
    assert float(changed.abs().max()) <= 1
    mirror = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=1, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    expected = middle(canvases).flip(-1)
    torch.testing.assert_close(Augmentation(mirror)(canvases), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "change", [{"bckbone": "x"}, {"stages": []}, {"precision": "fp8"}, {"split": {"validation": 2}}]
)
def test_a_wrong_configuration_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EmbedderConfig.model_validate({**CONFIG.model_dump(), **change})


def test_the_shipped_configuration_ends_with_batch_hard() -> None:
    last = EmbedderConfig.load(Path(__file__).parents[2] / "configs" / "train.yaml").stages[-1]
    assert last.losses.triplet is not None
    assert last.losses.triplet.mining == "batch-hard"
    assert last.images_per_identity


def test_held_out_people_do_not_train(identity_folder: Path, tmp_path: Path) -> None:
    from trainer.embedder.config import SplitConfig
    from trainer.embedder.data import FaceData

    split = SplitConfig(validation=0.5, calibration=0.5)
    stage = CONFIG.stages[0].model_copy(update={"images_per_identity": None})
    data = FaceData(load_canvases(identity_folder, None, tmp_path), None, split, stage)
    assert len(data.training_rows) == 0
    names = {data.canvases.identities[row] for row in data.validation_rows}
    assert names == {name for name in ("collins", "hopper") if part_of(name, split) is Part.VALIDATION}


def test_a_run_that_was_killed_goes_on_from_its_last_epoch(identity_folder: Path, tmp_path: Path) -> None:
    import os

    import yaml

    from tests.server import wait_for

    stage = {**CONFIG.stages[0].model_dump(), "epochs": 12}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({**CONFIG.model_dump(mode="json"), "stages": [stage]}))
    options = {"--identities": identity_folder, "--config": "train.yaml", "--work": "work"}
    words = [str(word) for item in options.items() for word in item]
    command, straight_command = (
        [sys.executable, "-m", "trainer", "train", *words, "--output", folder] for folder in ("run", "straight")
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
    # In a process of its own as well: here other tests may have changed how many threads add up a sum.
    subprocess.run(straight_command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    straight = torch.load(tmp_path / "straight" / "1-batch-hard" / "last.ckpt", map_location="cpu", weights_only=True)
    for name, weights in straight["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], weights, atol=1e-6, rtol=1e-6)


def test_too_few_people_for_a_batch_are_told_before_work(identity_folder: Path, tmp_path: Path) -> None:
    canvases = load_canvases(identity_folder, None, tmp_path)
    for change, words in (
        ({"batch_size": 512}, "lower batch_size"),
        ({"batch_size": 12}, "lower batch_size to 8 or less"),
    ):
        config = CONFIG.model_copy(update={"stages": [CONFIG.stages[0].model_copy(update=change)]})
        with pytest.raises(ConfigError, match=words):
            training.train(config, canvases, None, tmp_path, tmp_path / f"run-{change['batch_size']}")


def test_pictures_unpacked_again_are_those_of_the_run(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(identity_folder, tmp_path / "again", copy_function=shutil.copyfile)
    canvases = load_canvases(tmp_path / "again", None, tmp_path)
    assert training.train(CONFIG, canvases, None, tmp_path, trained.parents[1]) == trained
    next((tmp_path / "again").glob("*/*")).write_bytes(next(identity_folder.glob("*/*")).read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match="holds a run with another pictures"):
        training.train(CONFIG, load_canvases(tmp_path / "again", None, tmp_path), None, tmp_path, trained.parents[1])


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 no zip"])
def test_what_is_no_checkpoint_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(content)
    for take in (
        lambda: load_encoder(tmp_path / "weights.pt"),
        lambda: load_initial(nn.Identity(), tmp_path / "weights.pt"),
    ):
        with pytest.raises(ConfigError, match="neither a checkpoint nor a state dict"):
            take()
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ConfigError, match="holds a list"):
        load_encoder(tmp_path / "list.pt")


def test_a_folder_of_another_run_is_not_gone_on_with(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    canvases = load_canvases(identity_folder, None, tmp_path)
    config = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(ConfigError, match="holds a run with another config"):
        training.train(config, canvases, None, tmp_path, trained.parents[1])


def test_other_activations_are_not_the_published_network(tmp_path: Path) -> None:
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
    torch.onnx.export(other, (torch.rand(1, 3, CROP, CROP),), graph, dynamo=False)
    with pytest.raises(ValueError, match="computes something else"):
        load_initial(build_encoder("mobilefacenet", 32), graph)


def test_a_wrong_configuration_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("backbone: resnet18\nsurprise: 1\nstages: [{name: x, epochs: 0, learning_rate: 1, losses: {}}]\n")
    with pytest.raises(ConfigError) as told:
        EmbedderConfig.load(path)
    assert "surprise: Extra inputs" in str(told.value)
    assert "stages.0.epochs: Input should be greater" in str(told.value)
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        EmbedderConfig.load(tmp_path / "missing.yaml")
