"""The landmark refiner: a small convolutional network that locates five landmarks and verifies faces."""

import torch
from torch import nn
from torch.nn import functional

POINTS = 5
HALF_CONFIDENCE_ERROR = 0.1
"""Expected error, divided by the distance between the eyes, at which a landmark's confidence is 0.5."""
EYES = 35.24 / 160
"""Distance between the eyes in an aligned crop with its margin, as a fraction of the crop's side."""


class LandmarkRefiner(nn.Module):
    """Maps (n, 3, size, size) crops of values 0 to 255 to landmarks, their errors and face logits.

    Returns (n, 5, 3): x and y as fractions of the side and the logarithm of the expected error in the same unit; and
    (n,) logits of the probability of a face.

    Each point is the expectation of a heat map at a quarter of the crop's resolution (Sun et al., "Integral human pose
    regression", ECCV 2018), computed by an hourglass network. The error is the scale of a Laplace distribution around
    the point, learned by maximum likelihood (Kendall and Gal, "What uncertainties do we need in Bayesian deep learning
    for computer vision?", NeurIPS 2017). Hidden points therefore get a low confidence without labels of visibility.
    """

    places: torch.Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        near, middle, far = 2 * width, 3 * width, 4 * width
        self.stem = nn.Sequential(_convolution(3, width, 2), _convolution(width, near, 2), _Residual(near))
        self.down = nn.Sequential(_convolution(near, middle, 2), _Residual(middle))
        self.further = nn.Sequential(_convolution(middle, far, 2), _Residual(far))
        self.from_far = nn.Conv2d(far, middle, 1)
        self.from_middle = nn.Conv2d(middle, near, 1)
        self.up = _Residual(middle)
        self.maps = nn.Sequential(_Residual(near), nn.Conv2d(near, POINTS, 1))
        self.scales = nn.Linear(far + 2 * POINTS, POINTS)
        self.face = nn.Sequential(nn.Linear(far + 2 * POINTS, far), nn.ReLU(inplace=True), nn.Linear(far, 1))
        cells = size // 4
        places = (torch.arange(cells) + 0.5) / cells
        grid = torch.stack(torch.meshgrid(places, places, indexing="xy"), dim=-1).reshape(-1, 2)
        self.register_buffer("places", grid)

    def forward(self, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        near = self.stem((crops - 127.5) / 128)
        middle = self.down(near)
        far = self.further(middle)
        middle = self.up(middle + functional.interpolate(self.from_far(far), scale_factor=2.0))
        near = near + functional.interpolate(self.from_middle(middle), scale_factor=2.0)
        heat = self.maps(near).float().flatten(2).softmax(dim=2)
        points = heat @ self.places
        spread = (heat @ self.places.square() - points.square()).clamp_min(0).flatten(1).sqrt()
        summary = torch.cat([far.float().mean(dim=(2, 3)), spread], dim=1)
        scales = self.scales(summary) - 3
        return torch.cat([points, scales.clamp(-6, 1).unsqueeze(2)], dim=2), self.face(summary).squeeze(1)


class Deployed(nn.Module):
    """Wraps the refiner for export: returns (n, 16), five times x, y and confidence, and the probability of a face.

    x and y are fractions of the crop's side; confidences and probability are 0 to 1.
    """

    def __init__(self, refiner: LandmarkRefiner) -> None:
        super().__init__()
        self.refiner = refiner

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        outputs, face = self.refiner(crops)
        error = outputs[..., 2:].exp() / EYES
        confidence = 1 / (1 + (error / HALF_CONFIDENCE_ERROR) ** 2)
        landmarks = torch.cat([outputs[..., :2], confidence], dim=2).flatten(1)
        return torch.cat([landmarks, face.sigmoid().unsqueeze(1)], dim=1)


def laplace_loss(outputs: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Returns the mean negative log-likelihood of (n, 5, 2) points under a Laplace distribution, without its constant.

    Args:
        outputs: (n, 5, 3) x, y and logarithm of the scale.
        points: (n, 5, 2) true x and y, in the unit of `outputs`.
    """
    distance = functional.smooth_l1_loss(outputs[..., :2], points, beta=0.002, reduction="none").sum(dim=2)
    log_scale = outputs[..., 2]
    return (distance * torch.exp(-log_scale) + 2 * log_scale).mean()


def _convolution(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(channels, channels, 1), nn.Conv2d(channels, channels, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.body(x))
