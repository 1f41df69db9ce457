"""Encoders of every name, and which of their parts learn."""

import contextlib
import urllib.error
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from trainer.configuration import ConfigError
from trainer.embedder.backbones import build_encoder, freeze_but
from trainer.embedder.backbones.learning import stages_of
from trainer.embedder.checkpoints import load_initial

SIZES = (32, 64, 75, 96, 112, 128, 224)
NOT_AT_112 = {"vit_b_32": 32, "vit_l_32": 32, "maxvit_t": 224}
"""Input sizes of those that can't take the usual one: a multiple of the patch, and of all windows."""


@pytest.fixture
def quickly() -> object:
    """Without random weights, which take minutes for the largest: what comes out is only looked at for its shape."""
    kept = {
        name: getattr(nn.init, name) for name in ("normal_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_")
    }
    for name in kept:
        setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    yield
    for name, function in kept.items():
        setattr(nn.init, name, function)


def smallest(name: str) -> tuple[int, nn.Module]:
    for size in SIZES:
        with contextlib.suppress(ConfigError):
            return size, build_encoder(name, 24, size).eval()
    pytest.fail(f"{name} takes none of {SIZES}")


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_classifier_of_torchvision_makes_an_encoder(name: str, quickly: None) -> None:
    size, encoder = smallest(name)
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 24)
    if name in NOT_AT_112:
        assert size == NOT_AT_112[name]
        with pytest.raises(ConfigError, match="112 pixels"):
            build_encoder(name, 24)
    else:
        assert size <= 112
    assert encoder.head[1].weight.shape[0] == 24


@pytest.mark.parametrize("name", ["residual_small", "mobilefacenet"])
def test_ours_by_their_names(name: str) -> None:
    encoder = build_encoder(name, 32).eval()
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, 112, 112)).shape == (2, 32)
    with pytest.raises(ConfigError, match="leave input_size out"):
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
def test_what_only_timm_has(name: str, size: int) -> None:
    encoder = build_encoder(name, 24, size).eval()
    with torch.inference_mode():
        assert encoder(torch.zeros(2, 3, size, size)).shape == (2, 24)


def test_a_name_of_both_libraries_is_torchvisions_unless_said() -> None:
    kinds = {name: type(build_encoder(name, 8).backbone).__module__ for name in ("resnet18", "timm:resnet18")}
    assert kinds["resnet18"].startswith("torchvision")
    assert kinds["timm:resnet18"].startswith("timm")


def test_a_patch_that_does_not_fit_is_told() -> None:
    with pytest.raises(ConfigError, match="vit_b_16 doesn't take pictures of 100 pixels"):
        build_encoder("vit_b_16", 8, 100)


def test_dropout_is_before_the_layer_that_makes_the_embedding() -> None:
    for name in ("resnet18", "residual_small", "mobilefacenet"):
        rates = [module.p for module in build_encoder(name, 8, dropout=0.3).modules() if isinstance(module, nn.Dropout)]
        assert rates == [0.3]


def test_published_weights_are_found_where_torchvision_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints"
    place.mkdir(parents=True)
    published = torchvision.models.get_model("vit_b_16")
    file = torchvision.models.get_model_weights("vit_b_16").DEFAULT.url.rpartition("/")[2]
    torch.save(published.state_dict(), place / file)
    encoder = build_encoder("vit_b_16", 8, pretrained=True)  # whose position embedding is interpolated
    own = encoder.backbone.state_dict()
    torch.testing.assert_close(own["conv_proj.weight"], published.state_dict()["conv_proj.weight"])
    assert own["encoder.pos_embedding"].shape == (1, 1 + 7 * 7, 768)


def test_without_a_network_published_weights_are_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(ConfigError, match=r"resnet18.*Name or service.*resnet18-f37072fd.pth.*pretrained: false"):
        build_encoder("resnet18", 8, pretrained=True)


def test_timms_weights_are_not_to_be_had_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"deit_tiny_patch16_224 can't be had.*--initial"):
        build_encoder("deit_tiny_patch16_224", 8, pretrained=True)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_a_library_are_what_one_begins_with(tmp_path: Path, suffix: str) -> None:
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
    "mobilenet_v3_small": "backbone.features.12.",
    "vit_b_32": "backbone.encoder.layers.encoder_layer_11.",
    "timm:convnextv2_atto": "backbone.stages.3.",
    "residual_small": "features.10.",
    "mobilefacenet": "features.18.",
}


@pytest.mark.parametrize("name", LAST_STAGE)
def test_a_frozen_backbone_learns_nothing_but_its_last_stages(name: str) -> None:
    encoder = build_encoder(name, 8, 224 if name == "vit_b_32" else 112).train()
    freeze_but(encoder, 0)
    head = {key for key, value in encoder.named_parameters() if value.requires_grad}
    assert "head" in " ".join(head)
    assert not any(key.startswith(LAST_STAGE[name]) for key in head)
    encoder.train()
    freeze_but(encoder, 1)
    learning = {key for key, value in encoder.named_parameters() if value.requires_grad}
    assert {key.startswith(LAST_STAGE[name]) for key in learning - head} == {True}
    assert all(not module.training for module in stages_of(encoder)[0].modules())
    assert encoder.head.training
    with pytest.raises(ConfigError, match="unfrozen_stages is 99"):
        freeze_but(encoder, 99)
