"""Initial weights and teachers of an embedder, from checkpoints and from graphs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from tests.trainer.small_run import run_config
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE_SIZE, load_aligned_crops
from trainer.embedder.augmentation import centre_tensor
from trainer.embedder.backbones import build_encoder
from trainer.embedder.backbones.mobilefacenet import ConvUnit
from trainer.embedder.checkpoints import load_encoder, load_initial, with_backbone_of
from trainer.embedder.embedding import embed_crops
from trainer.embedder.teacher import Teacher, teacher_embeddings
from trainer.onnx_graph import write_graph

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def with_statistics(encoder: nn.Module) -> nn.Module:
    """Gives the batch norms random statistics, as if the encoder had been trained."""
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    return encoder


def test_published_weights_produce_the_published_embeddings(tmp_path: Path) -> None:
    original = with_statistics(build_encoder("mobilefacenet", 32))
    pixels = torch.rand(1, 3, CENTRE_SIZE, CENTRE_SIZE)
    published = tmp_path / "published.onnx"
    torch.onnx.export(original.eval(), (pixels,), published, dynamo=False)  # folds the batch norms
    encoder = build_encoder("mobilefacenet", 32)
    load_initial(encoder, published)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.eval()(pixels), original(pixels), atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="does not have the backbone's architecture"):
        load_initial(build_encoder("mobilefacenet", 64), published)


@pytest.mark.parametrize("name", ["embedder", "embedder-fairface", "embedder-permissive"])
def test_bundle_graph_serves_as_teacher_and_as_initial_weights(
    identity_folder: Path, tmp_path: Path, name: str
) -> None:
    bundle = BUNDLES / name
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    targets = teacher_embeddings([bundle / "model.onnx"], crops, tmp_path, 128)
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    served = embed_crops(embedder.uncorrected() or embedder, crops, list(range(len(crops))))[0]
    assert (targets * served).sum(axis=1).min() > 0.9  # the teacher's embedding is the mean with the mirror picture
    config = with_backbone_of(run_config({"backbone": "initial", "embedding_dim": 128, "input_size": 112}), bundle)
    encoder = build_encoder(config.backbone, 128).eval()
    load_initial(encoder, bundle)
    with torch.inference_mode():
        pixels = centre_tensor(torch.from_numpy(np.asarray(crops.pictures)))
        embeddings = nn.functional.normalize(encoder(pixels))
        if embedder.manifest.mirror_average:
            embeddings += nn.functional.normalize(encoder(pixels.flip(3)))
        loaded = nn.functional.normalize(embeddings).numpy()
    assert (loaded * served).sum(axis=1).min() > 0.999


def test_teacher_with_another_input_is_rejected(identity_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not accept \(1, 3, 112, 112\) input"):
        teacher_embeddings(
            [BUNDLES / "detector" / "landmarks.onnx"],
            load_aligned_crops(identity_folder, None, tmp_path),
            tmp_path,
            128,
        )


def test_cosines_of_several_teachers_are_averaged(identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    first, second = BUNDLES / "embedder", BUNDLES / "embedder-fairface"
    both = teacher_embeddings([first, second], crops, tmp_path, 128)
    alone = [teacher_embeddings([path], crops, tmp_path, 128) for path in (first, second)]
    assert both.shape == (len(crops), 128)
    mean = sum(part @ part.T for part in alone) / 2
    assert len(crops) < 128  # so that 128 axes keep the cosines exactly
    np.testing.assert_allclose(both @ both.T, mean, atol=1e-5)
    few = teacher_embeddings([first, second], crops, tmp_path, 4)
    np.testing.assert_allclose(np.linalg.norm(few, axis=1), 1, atol=1e-5)
    assert np.corrcoef((few @ few.T).ravel(), mean.ravel())[0, 1] > 0.9
    used = np.arange(len(crops)) % 2 == 0
    some = teacher_embeddings([first], crops, tmp_path, 128, used)
    np.testing.assert_allclose(some[used], alone[0][used], atol=1e-5)
    assert not some[~used].any()


def test_teacher_of_a_bundle_receives_the_pixels_of_its_manifest(identity_folder: Path, tmp_path: Path) -> None:
    crop = np.random.default_rng(0).integers(0, 256, (CENTRE_SIZE, CENTRE_SIZE, 3), np.uint8)
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLES / "embedder-fairface", bundle, copy_function=shutil.copyfile)
    manifest = json.loads((bundle / "manifest.json").read_text())
    scaling = {"colour_order": "BGR", "mean": 0, "std": 255}
    (bundle / "manifest.json").write_text(json.dumps({**manifest, "scaling": scaling}))
    fed = Teacher.of(bundle).input_of(crop)[0]
    np.testing.assert_allclose(fed, crop[..., ::-1].transpose(2, 0, 1) / 255, atol=1e-6)
    usual = Teacher.of(bundle / "model.onnx").input_of(crop)[0]
    np.testing.assert_allclose(usual, (crop.transpose(2, 0, 1) - 127.5) / 128, atol=1e-6)


@pytest.mark.parametrize("change", [{"filters": {"clahe": {"clip_limit": 3}}}, {"input_size": 160}])
def test_bundle_that_needs_other_crops_is_no_teacher(change: dict, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLES / "embedder-fairface", bundle, copy_function=shutil.copyfile)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(ConfigError, match="cannot be a teacher"):
        Teacher.of(bundle)


@pytest.mark.parametrize("name", ["mobilefacenet", "residual_small"])
def test_graph_of_a_bundle_initialises_its_own_architecture(name: str, tmp_path: Path) -> None:
    original = with_statistics(build_encoder(name, 32))
    graph = tmp_path / "model.onnx"
    write_graph(original.eval(), torch.rand(2, 3, CENTRE_SIZE, CENTRE_SIZE), graph, "embeddings")
    config = run_config({"backbone": "initial", "embedding_dim": 32, "input_size": CENTRE_SIZE})
    assert with_backbone_of(config, graph).backbone == name
    encoder = build_encoder(name, 32)
    load_initial(encoder, graph)
    pixels = torch.rand(4, 3, CENTRE_SIZE, CENTRE_SIZE) * 2 - 1
    with torch.inference_mode():
        cosines = nn.functional.cosine_similarity(encoder.eval()(pixels), original(pixels))
    assert cosines.min() > 0.999  # the graph's weights have half precision
    other = build_encoder({"mobilefacenet": "residual_small", "residual_small": "mobilefacenet"}[name], 32)
    with pytest.raises(ValueError, match="does not have the backbone's architecture"):
        load_initial(other, graph)


def test_backbone_of_the_initial_weights_needs_weights_of_a_known_one() -> None:
    config = run_config({"backbone": "initial", "embedding_dim": 128, "input_size": CENTRE_SIZE})
    with pytest.raises(ConfigError, match="name them with --initial"):
        with_backbone_of(config, None)
    with pytest.raises(ConfigError, match="has the architecture of none of mobilefacenet"):
        with_backbone_of(config, BUNDLES / "detector" / "landmarks.onnx")


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
