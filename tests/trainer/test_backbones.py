"""Builds the encoders of all libraries, and freezes their parts."""

import contextlib
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

from trainer.configuration import ConfigError
from trainer.embedder.backbones import build_encoder, freeze_but
from trainer.embedder.backbones.learning import stages_of
from trainer.embedder.checkpoints import load_initial

SIZES = (32, 64, 75, 96, 112, 128, 224)
OTHER_SIZES = {"vit_b_32": 32, "vit_l_32": 32, "maxvit_t": 224}
"""Smallest accepted sizes of models that reject 112 pixels: multiples of their patches and windows."""


@pytest.fixture
def without_initialisation() -> object:
    """Skips the random initialisation, which takes minutes for the largest models; the tests only check shapes."""
    originals = {
        name: getattr(nn.init, name) for name in ("normal_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_")
    }
    for name in originals:
        setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    yield
    for name, function in originals.items():
        setattr(nn.init, name, function)


def build_smallest(name: str) -> tuple[int, nn.Module]:
    for size in SIZES:
        with contextlib.suppress(ConfigError):
            return size, build_encoder(name, 24, size).eval()
    pytest.fail(f"{name} accepts none of the sizes {SIZES}")


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_torchvision_classifier_becomes_an_encoder(name: str, without_initialisation: None) -> None:
    size, encoder = build_smallest(name)
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 24)
    if name in OTHER_SIZES:
        assert size == OTHER_SIZES[name]
        with pytest.raises(ConfigError, match="112 pixels"):
            build_encoder(name, 24)
    else:
        assert size <= 112
    assert encoder.head[1].weight.shape[0] == 24


@pytest.mark.parametrize("name", ["residual_small", "mobilefacenet", "mobilenet_v1_slim"])
def test_built_in_backbones(name: str) -> None:
    encoder = build_encoder(name, 32).eval()
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, 112, 112)).shape == (2, 32)
    with pytest.raises(ConfigError, match="remove input_size"):
        build_encoder(name, 32, 128)
    with pytest.raises(ConfigError, match="--initial"):
        build_encoder(name, 32, pretrained=True)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("deit_tiny_patch16_224", 112),
        ("deit_small_patch16_224", 64),
        ("convnextv2_atto", 112),
        ("beit_base_patch16_224", 32),
        ("timm:resnet18", 64),
        ("timm:mobilenetv4_conv_small", 112),
    ],
)
def test_timm_backbones(name: str, size: int) -> None:
    encoder = build_encoder(name, 24, size).eval()
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 24)


def test_name_of_both_libraries_selects_torchvision_without_prefix() -> None:
    kinds = {name: type(build_encoder(name, 8).backbone).__module__ for name in ("resnet18", "timm:resnet18")}
    assert kinds["resnet18"].startswith("torchvision")
    assert kinds["timm:resnet18"].startswith("timm")


def test_input_size_that_is_no_multiple_of_the_patch_is_rejected() -> None:
    with pytest.raises(ConfigError, match="vit_b_16 does not accept pictures of 100 pixels"):
        build_encoder("vit_b_16", 8, 100)


def test_dropout_precedes_the_embedding_layer() -> None:
    for name in ("resnet18", "residual_small", "mobilefacenet"):
        rates = [module.p for module in build_encoder(name, 8, dropout=0.3).modules() if isinstance(module, nn.Dropout)]
        assert rates == [0.3]


def test_published_weights_are_loaded_from_torchvisions_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    published = torchvision.models.get_model("vit_b_16")
    file = torchvision.models.get_model_weights("vit_b_16").DEFAULT.url.rpartition("/")[2]
    torch.save(published.state_dict(), folder / file)
    encoder = build_encoder("vit_b_16", 8, pretrained=True)  # its position embedding is interpolated
    own = encoder.backbone.state_dict()
    torch.testing.assert_close(own["conv_proj.weight"], published.state_dict()["conv_proj.weight"])
    assert own["encoder.pos_embedding"].shape == (1, 1 + 7 * 7, 768)


def test_published_weights_without_network_are_a_readable_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(ConfigError, match=r"resnet18.*Name or service.*resnet18-f37072fd.pth.*pretrained: false"):
        build_encoder("resnet18", 8, pretrained=True)


def test_timm_weights_without_network_raise_a_readable_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"deit_tiny_patch16_224 cannot be downloaded.*--initial"):
        build_encoder("deit_tiny_patch16_224", 8, pretrained=True)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_state_dict_of_a_library_is_loaded_as_initial_weights(tmp_path: Path, suffix: str) -> None:
    state = torchvision.models.get_model("resnet18").state_dict()
    file = tmp_path / f"mine{suffix}"
    if suffix == ".pth":
        torch.save(state, file)
    else:
        from safetensors.torch import save_file

        save_file(state, file)
    encoder = build_encoder("resnet18", 8)
    load_initial(encoder, file)
    torch.testing.assert_close(encoder.backbone.conv1.weight, state["conv1.weight"])
    with pytest.raises(ConfigError, match="another architecture"):
        load_initial(build_encoder("mobilenet_v3_small", 8), file)


LAST_STAGE = {
    "resnet18": "backbone.layer4.",
    "mobilenet_v3_small": ("backbone.features.9.", "backbone.features.1"),
    "densenet121": ("backbone.features.transition3", "backbone.features.denseblock4", "backbone.features.norm5"),
    "vit_b_32": "backbone.encoder.layers.encoder_layer_11.",
    "timm:convnextv2_atto": ("backbone.stages.3.", "backbone.head.norm."),
    "residual_small": ("features.9.", "features.10."),
    "mobilefacenet": ("features.15.", "features.16.", "features.17.", "features.18."),
    "mobilenet_v1_slim": ("features.23.", "features.24.", "features.25.", "features.26."),
}


@pytest.mark.parametrize("name", LAST_STAGE)
def test_frozen_backbone_trains_only_its_last_stages(name: str) -> None:
    size = 224 if name == "vit_b_32" else 112
    encoder = build_encoder(name, 8, size).train()
    freeze_but(encoder, 0, size)
    head = {key for key, value in encoder.named_parameters() if value.requires_grad}
    assert "head" in " ".join(head)
    assert not any(key.startswith(LAST_STAGE[name]) for key in head)
    encoder.train()
    freeze_but(encoder, 1, size)
    trainable = {key for key, value in encoder.named_parameters() if value.requires_grad}
    assert {key.startswith(LAST_STAGE[name]) for key in trainable - head} == {True}
    assert not any(parameter.requires_grad for parameter in stages_of(encoder, size)[0])
    assert not next(module for module in encoder.modules() if isinstance(module, nn.Conv2d)).training
    assert encoder.head.training
    with pytest.raises(ConfigError, match="unfrozen_stages is 99"):
        freeze_but(encoder, 99, size)


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18", "timm:vit_tiny_patch16_224", "inception_v3"])
def test_library_backbone_receives_the_pixels_that_its_weights_expect(name: str) -> None:
    """Compares with the preprocessing of the library itself, as it documents it."""
    encoder = build_encoder(name, 8, 112).eval()
    pictures = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    if name.startswith("timm:"):
        settings = encoder.backbone.pretrained_cfg
        expected = v2.functional.normalize(pictures / 255, settings["mean"], settings["std"])
    else:
        preprocessing = torchvision.models.get_model_weights(name).DEFAULT.transforms(crop_size=112, resize_size=112)
        expected = preprocessing(pictures)
    torch.testing.assert_close(encoder.scaling((pictures.float() - 127.5) / 128), expected, atol=1e-5, rtol=1e-5)


def test_weights_are_selected_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    weights = torchvision.models.get_model_weights("regnet_y_16gf").IMAGENET1K_SWAG_LINEAR_V1
    state = torchvision.models.get_model("regnet_y_16gf").state_dict()
    torch.save(state, tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2])
    encoder = build_encoder("regnet_y_16gf", 8, 64, pretrained="IMAGENET1K_SWAG_LINEAR_V1")
    torch.testing.assert_close(encoder.backbone.state_dict()["stem.0.weight"], state["stem.0.weight"])
    with pytest.raises(ConfigError, match=r"regnet_y_16gf has the weights IMAGENET1K_V1.*IMAGENET1K_SWAG_E2E_V1"):
        build_encoder("regnet_y_16gf", 8, pretrained="SWAG")


def test_timm_builds_its_backbones_with_further_channels() -> None:
    encoder = build_encoder("timm:resnet18", 8, 64, more_channels=4).eval()
    assert encoder.backbone.conv1.in_channels == 7
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 7, 64, 64)).shape == (2, 8)
