"""Removes channels of a MobileNet, so that it is faster and smaller.

For each pointwise convolution, forward selection finds the input channels from which a linear map predicts its output
best, and least squares finds the map. The inputs are those of the network whose earlier layers are slim already, so
that each layer corrects the errors of the layers before it (He, Zhang and Sun, "Channel pruning for accelerating very
deep neural networks", ICCV 2017, with another selection).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from trainer.embedder.backbones.mobilenet_v1 import POSITIONS, ConvolutionUnit, MobileNetV1, Widths
from trainer.progress import track

POSITIONS_PER_PICTURE = 24
"""Positions of a layer's map that count, drawn at random for each picture."""
PREDICTED = (7, 9, 11, 12, 13)
"""Numbers of the pointwise convolutions, from 1, whose maps can be compared in training: at 14 and 7 pixels."""
RIDGE = 1e-4
"""Added to the variances, as a fraction of their mean."""


@dataclass(frozen=True)
class Moments:
    """Covariances of N samples of C inputs and O outputs.

    Attributes:
        inputs: (C, C) covariance of the inputs.
        cross: (C, O) covariance of inputs and outputs.
        input_mean: (C,).
        output_mean: (O,).
    """

    inputs: Tensor
    cross: Tensor
    input_mean: Tensor
    output_mean: Tensor

    @classmethod
    def of(cls, samples: Sequence[tuple[Tensor, Tensor]]) -> "Moments":
        """Computes the covariances of (N, C) inputs and (N, O) outputs in batches."""
        count = sum(len(inputs) for inputs, _ in samples)
        means = [torch.stack([batch[side].double().sum(0) for batch in samples]).sum(0) / count for side in (0, 1)]
        inputs, cross = torch.zeros(len(means[0]), len(means[0])).double(), torch.zeros(*map(len, means)).double()
        for batch in samples:
            centred = [side.double() - mean for side, mean in zip(batch, means, strict=True)]
            inputs += centred[0].T @ centred[0]
            cross += centred[0].T @ centred[1]
        ridge = RIDGE * inputs.diagonal().mean() * torch.eye(len(inputs))
        return cls((inputs + ridge) / count, cross / count, *means)

    def select(self, count: int) -> Tensor:
        """Returns the ascending indices of `count` inputs, each chosen as the one that explains most of the rest."""
        covariance, cross = self.inputs.clone(), self.cross.clone()
        left = torch.ones(len(covariance), dtype=torch.bool)
        for _ in range(min(count, len(covariance))):
            explained = (cross**2).sum(1) / covariance.diagonal().clamp_min(1e-12)
            best = int(torch.where(left, explained, -1.0).argmax())
            left[best] = False
            share = covariance[:, best] / covariance[best, best]
            cross = cross - share[:, None] * cross[best]
            covariance = covariance - share[:, None] * covariance[best]
        return torch.nonzero(~left).flatten()

    def fit(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the (O, n) map from the chosen inputs to the outputs with the least squared error, and its offset."""
        weights = torch.linalg.solve(self.inputs[chosen][:, chosen], self.cross[chosen]).T
        return weights, self.output_mean - weights @ self.input_mean[chosen]


@dataclass(frozen=True)
class Slimmed:
    """A slim network, and how it predicts the network of which it was made.

    Attributes:
        predictors: by the numbers `PREDICTED`: the linear map from the input of a pointwise convolution of the slim
            network to the normalised output of that of the published network.
    """

    network: MobileNetV1
    predictors: dict[int, nn.Conv2d]


@torch.no_grad()
def slim(published: MobileNetV1, widths: Widths, pictures: Sequence[Tensor], seed: int = 0) -> Slimmed:
    """Makes a network of these widths that approximates `published` on the pictures.

    Args:
        widths: At most the widths of `published`, with a code.
        pictures: Batches of (N, 3, 112, 112), `(x - 127.5) / 128`. Memory: about 7 MB for each picture.
    """
    generator = torch.Generator().manual_seed(seed)
    result = MobileNetV1(published.linear.out_features, widths=widths).eval()
    units = cast("list[ConvolutionUnit]", list(published.features))
    slim_units = cast("list[ConvolutionUnit]", list(result.features))
    wide = units[0]  # the last unit whose outputs have not been selected
    full_maps = [wide(batch) for batch in pictures]
    slim_maps = [batch.clone() for batch in full_maps]
    predictors = {}
    for block in track(range(1, len(units) // 2 + 1), description="removing channels"):
        depthwise, pointwise = units[2 * block - 1], units[2 * block]
        deviation = cast("Tensor", pointwise.norm.running_var).add(pointwise.norm.eps).sqrt().double()
        samples = []
        for index, full_map in enumerate(full_maps):  # in place, since the maps fill most of the memory
            slim_maps[index] = depthwise(slim_maps[index])
            output = pointwise.convolution(depthwise(full_map))
            full_maps[index] = pointwise.activation(pointwise.norm(output))
            samples.append(_sample(slim_maps[index], output, deviation, generator))
        moments = Moments.of(samples)
        chosen = moments.select(widths.convolutions[block - 1])
        _copy_outputs(wide, slim_units[2 * block - 2], chosen)
        _copy_outputs(depthwise, slim_units[2 * block - 1], chosen)
        weights, offset = moments.fit(chosen)
        wide = _pointwise(pointwise, weights * deviation[:, None], offset * deviation)
        if block in PREDICTED:
            predictors[block] = _with_norm(wide)
        for index, slim_map in enumerate(slim_maps):
            slim_maps[index] = wide(slim_map[:, chosen])
    _fill_head(published, result, wide, (full_maps, slim_maps))
    return Slimmed(result, predictors)


def _sample(inputs: Tensor, outputs: Tensor, scale: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    positions = torch.randint(inputs[0, 0].numel(), (len(inputs), POSITIONS_PER_PICTURE), generator=generator)
    return _at(inputs, positions), _at(outputs, positions) / scale


def _at(maps: Tensor, positions: Tensor) -> Tensor:
    """Returns the (N * P, C) values of (N, C, H, W) maps at (N, P) positions."""
    columns = positions[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, columns).transpose(1, 2).flatten(0, 1)


def _all(maps: Tensor) -> Tensor:
    """Returns the (N * H * W, C) values of (N, C, H, W) maps."""
    return maps.flatten(2).transpose(1, 2).flatten(0, 1)


def _copy_outputs(source: ConvolutionUnit, target: ConvolutionUnit, chosen: Tensor) -> None:
    target.convolution.weight.copy_(source.convolution.weight[chosen])
    target.activation.weight.copy_(source.activation.weight[chosen])
    _copy_norm(source.norm, target.norm, chosen)


def _copy_norm(source: nn.BatchNorm2d, target: nn.BatchNorm2d, chosen: Tensor) -> None:
    target.load_state_dict(
        {name: value[chosen] if value.ndim else value for name, value in source.state_dict().items()}
    )


def _pointwise(original: ConvolutionUnit, weights: Tensor, offset: Tensor) -> ConvolutionUnit:
    """Returns a unit with other weights and the original's norm, which also adds the offset."""
    unit = ConvolutionUnit(weights.shape[1], weights.shape[0], 1).eval()
    unit.convolution.weight.copy_(weights[:, :, None, None])
    unit.norm.load_state_dict(original.norm.state_dict())
    cast("Tensor", unit.norm.running_mean).sub_(offset.to(torch.float32))
    unit.activation.weight.copy_(original.activation.weight)
    return unit


def _with_norm(unit: ConvolutionUnit) -> nn.Conv2d:
    """Returns the convolution and the norm of a unit as one convolution."""
    scale = unit.norm.weight / (cast("Tensor", unit.norm.running_var) + unit.norm.eps).sqrt()
    result = nn.Conv2d(unit.convolution.in_channels, unit.convolution.out_channels, 1)
    result.weight.copy_(unit.convolution.weight * scale[:, None, None, None])
    assert result.bias is not None
    result.bias.copy_(unit.norm.bias - cast("Tensor", unit.norm.running_mean) * scale)
    return result


def _fill_head(
    published: MobileNetV1,
    result: MobileNetV1,
    wide: ConvolutionUnit,
    maps: tuple[Sequence[Tensor], Sequence[Tensor]],
) -> None:
    """Replaces the last channels by a code: the principal components, weighted by their effect on the embedding."""
    full = [_all(published.norm(batch)).double() for batch in maps[0]]
    to_code, from_code, mean = _components(published, full, cast("nn.Conv2d", result.reduction).out_channels)
    code = [(values - mean) @ to_code.T for values in full]
    moments = Moments.of([(_all(published.norm(batch)), values) for batch, values in zip(maps[1], code, strict=True)])
    chosen = moments.select(result.norm.num_features)
    weights, offset = moments.fit(chosen)
    _copy_outputs(wide, cast("ConvolutionUnit", result.features[-1]), chosen)
    _copy_norm(published.norm, result.norm, chosen)
    cast("nn.Conv2d", result.reduction).weight.copy_(weights[:, :, None, None])
    before, after = published.linear, result.linear
    by_position = before.weight.double().view(before.out_features, -1, POSITIONS)
    after.weight.copy_(torch.einsum("ocp,cr->orp", by_position, from_code).flatten(1))
    after.bias.copy_(before.bias + torch.einsum("ocp,c->o", by_position, mean + from_code @ offset))
    result.last_norm.load_state_dict(published.last_norm.state_dict())


def _components(published: MobileNetV1, values: Sequence[Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the (count, C) map to the code, the (C, count) map back, and the (C,) mean of the values."""
    moments = Moments.of([(batch, batch) for batch in values])
    variances, axes = torch.linalg.eigh(moments.inputs)
    root = axes * variances.sqrt()
    effect = published.linear.weight.double().view(published.linear.out_features, -1, POSITIONS)
    _, important = torch.linalg.eigh(root.T @ torch.einsum("ocp,odp->cd", effect, effect) @ root)
    chosen = important[:, -count:]
    return chosen.T @ (axes / variances.sqrt()).T, root @ chosen, moments.input_mean
