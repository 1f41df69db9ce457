"""Builds backbones of other libraries without their classifiers: (N, 3, size, size) to (N, features)."""

import functools
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torch import nn
from torchvision.models.vision_transformer import interpolate_embeddings

from trainer.configuration import ConfigError, missing_package
from trainer.embedder.backbones.scaling import SYMMETRIC

FACENET = "facenet:inception_resnet_v1"
FACENET_OWN_LAYER = "facenet:inception_resnet_v1_512"
FACENET_DIM = 512
COLOURS = 3
FACENET_HEAD = {"avgpool_1a", "dropout", "last_linear", "last_bn", "logits"}
FACENET_MIN_SIZE = 75
MODELS_WITH_AUXILIARY = {"googlenet", "inception_v3"}


Built = tuple[nn.Module, Sequence[float], Sequence[float]]
"""A backbone, and mean and deviation of the pixels that its published weights expect, on values of 0 to 1."""


def from_torchvision(name: str, input_size: int, pretrained: bool | str, _: int = 0) -> Built:
    """Builds a classification model of `torchvision.models`."""
    weights = _weights(name, pretrained)
    options: dict[str, Any] = {}
    if name in MODELS_WITH_AUXILIARY:  # their weights expect another scaling, to which they convert
        options = {"aux_logits": False, "init_weights": not pretrained, "transform_input": True}
    elif name.startswith("vit_"):
        options = {"image_size": input_size}
    elif name.startswith("maxvit"):
        options = {"input_size": (input_size, input_size)}
    try:
        model = cast("nn.Module", torchvision.models.get_model(name, weights=None, **options))
    except (AssertionError, ValueError) as error:
        raise ConfigError(f"{name} does not accept pictures of {input_size} pixels: {error}") from None
    if pretrained:
        _load_published(model, name, weights, input_size)
    preprocessing = weights.transforms()
    return _without_classifier(model), preprocessing.mean, preprocessing.std


def _weights(name: str, pretrained: bool | str) -> Any:
    """Returns the published weights with this name, or the default ones."""
    published = torchvision.models.get_model_weights(name)
    if not isinstance(pretrained, str):
        return published.DEFAULT
    try:
        return published[pretrained]
    except KeyError:
        names = ", ".join(member.name for member in published)
        raise ConfigError(f"pretrained: {pretrained}: {name} has the weights {names}") from None


def _load_published(model: nn.Module, name: str, weights: Any, input_size: int) -> None:
    try:
        state = dict(weights.get_state_dict(progress=True))
    except (OSError, HTTPException) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]
        raise _no_weights(name, f"{error}; torchvision caches them as {file}") from None
    if isinstance(model, torchvision.models.VisionTransformer):
        state = dict(interpolate_embeddings(input_size, model.patch_size, state))
    own = model.state_dict()
    model.load_state_dict({key: value for key, value in state.items() if key in own})  # drops auxiliary classifiers


def _without_classifier(model: nn.Module) -> nn.Module:
    linear = [path for path, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:  # SqueezeNet classifies with a convolution
        model.classifier = nn.AdaptiveAvgPool2d(1)
        return model
    parent, _, attribute = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent) if parent else model, attribute, nn.Identity())
    return model


def from_timm(name: str, input_size: int, pretrained: bool | str, more_channels: int = 0) -> Built:
    """Builds a model of timm (Ross Wightman and Hugging Face, Apache-2.0).

    timm itself extends the published weights to more input channels (`in_chans`).
    """
    if isinstance(pretrained, str):
        name = f"{name.partition('.')[0]}.{pretrained}"
    model = _create_timm(name, input_size, bool(pretrained), COLOURS + more_channels)
    return model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"]


def _create_timm(name: str, input_size: int, pretrained: bool, channels: int) -> Any:
    import timm

    try:
        try:
            return timm.create_model(name, pretrained, num_classes=0, in_chans=channels, img_size=input_size)
        except TypeError:  # convolutional models accept any size and have no such argument
            return timm.create_model(name, pretrained, num_classes=0, in_chans=channels)
    except AssertionError as error:
        raise ConfigError(f"{name} does not accept pictures of {input_size} pixels: {error}") from None
    except (OSError, RuntimeError, HTTPException) as error:
        if not pretrained:
            raise
        raise _no_weights(name, str(error)) from None


@functools.cache
def timm_names() -> list[str]:
    import timm

    return list(timm.list_models())


def timm_has(name: str) -> bool:
    """Returns True if timm has the architecture; a name may end in the tag of its weights, as in `resnet18.a1_in1k`."""
    return name.partition(".")[0] in timm_names()


def from_facenet(_: str, input_size: int, pretrained: bool | str, __: int = 0) -> Built:
    """Builds InceptionResnetV1 of facenet-pytorch (Tim Esler, MIT) without its 512-d layer and its normalisation."""
    return _FacenetTrunk(_facenet(input_size, pretrained)), *SYMMETRIC


def _facenet(input_size: int, pretrained: bool | str) -> nn.Module:
    try:
        from facenet_pytorch import InceptionResnetV1
    except ImportError:
        raise missing_package(FACENET, "facenet-pytorch") from None
    if input_size < FACENET_MIN_SIZE:
        raise ConfigError(f"{FACENET} needs an input_size of at least {FACENET_MIN_SIZE}")
    try:
        return cast("nn.Module", InceptionResnetV1(pretrained=_facenet_weights(pretrained)))
    except (OSError, RuntimeError) as error:
        raise _no_weights(FACENET, str(error)) from None


def facenet_with_own_layer(input_size: int, pretrained: bool | str) -> nn.Module:
    """Builds InceptionResnetV1 with its own 512-d layer: (N, 3, size, size) to (N, 512), not normalised."""
    return _FacenetWithOwnLayer(_facenet(input_size, pretrained))


def _facenet_weights(pretrained: bool | str) -> str | None:
    if isinstance(pretrained, str):
        return pretrained
    return "vggface2" if pretrained else None


class _FacenetTrunk(nn.Module):
    """Computes the pooled features, (N, 1792)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for name, child in model.named_children():
            if name not in FACENET_HEAD:
                self.add_module(name, child)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        return x.mean(dim=(2, 3))


class _FacenetWithOwnLayer(nn.Module):
    """Has the parameter names of the library, so that its published weights can be loaded from a file."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if hasattr(model, "logits"):  # the classifier of the published weights
            del model.logits
        self.backbone = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        model: Any = self.backbone
        trunk = [child for name, child in model.named_children() if name not in FACENET_HEAD]
        for child in trunk:
            x = child(x)
        return cast("torch.Tensor", model.last_bn(model.last_linear(model.dropout(x.mean(dim=(2, 3))))))


def _no_weights(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the published weights of {name} cannot be downloaded ({reason}). Connect this machine to the internet, set "
        "pretrained: false, or name a file of weights with --initial"
    )
