"""The landmark autoencoder: it estimates the frontal landmarks of a face from its landmarks in any pose."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.split import Part, part_of
from trainer.progress import track
from trainer.shape.chunks import Landmarks
from trainer.shape.config import ShapeConfig
from trainer.shape.pose import Pose, frontal_shift, pose_of

Floats = npt.NDArray[np.float32]
POSE_SCALE = 90.0
"""Angles in degrees are divided by this to form an input."""
POINTS = 5


class ShapeAutoencoder(nn.Module):
    """Maps (N, 12) landmarks with yaw and pitch to (N, 10) canonical landmarks, through a code of a few numbers.

    With roll as a further input it maps (N, 13).

    The input landmarks are already moved to the front as those of the average head would move; the network learns the
    difference of this face from that head. Without this step, its error was not smaller than that of the mean face.
    """

    def __init__(self, hidden: int, code: int, roll: bool = False) -> None:
        super().__init__()
        self.roll = roll
        self.encoder = nn.Sequential(nn.Linear(2 * POINTS + 2 + roll, hidden), nn.GELU(), nn.Linear(hidden, code))
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.GELU(), nn.Linear(hidden, 2 * POINTS))

    def forward(self, faces: Tensor) -> Tensor:
        return faces[:, : 2 * POINTS] + cast("Tensor", self.decoder(self.encoder(faces)))


@dataclass(frozen=True)
class Faces:
    """N faces of one part of the split.

    Attributes:
        inputs: (N, 12) or (N, 13) inputs of the autoencoder.
        upright: (N, 10) landmarks without position, size and roll.
        targets: (N, 10) canonical landmarks of the person: the mean over the person's frontal pictures.
    """

    inputs: Floats
    upright: Floats
    targets: Floats


@dataclass(frozen=True)
class ShapeErrors:
    """Mean distances of estimates from canonical landmarks, in distances between the eyes, on held-out people.

    Attributes:
        unchanged: error of the upright landmarks without change.
        moved_to_front: error of the landmarks moved to the front as those of the average head.
        mean_face: error of the mean face of the training part.
        restored: error of the autoencoder.
    """

    faces: int
    people: int
    unchanged: float
    moved_to_front: float
    mean_face: float
    restored: float


def train(landmarks: Landmarks, config: ShapeConfig, output: Path) -> ShapeErrors:
    """Trains the autoencoder, stores the best epoch in `shape.pt`, and measures it on the calibration part.

    Raises:
        ConfigError: a part of the split has nobody with enough frontal pictures.
    """
    torch.manual_seed(config.seed)
    parts = {part: _faces_of(landmarks, config, part) for part in (Part.TRAIN, Part.VALIDATION, Part.CALIBRATION)}
    training, validation = parts[Part.TRAIN], parts[Part.VALIDATION]
    model = ShapeAutoencoder(config.hidden, config.code, config.roll)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    inputs, targets = torch.from_numpy(training.inputs), torch.from_numpy(training.targets)
    best = np.inf
    output.mkdir(parents=True, exist_ok=True)
    for _ in track(range(config.epochs), description="training the autoencoder"):
        for rows in torch.split(torch.randperm(len(inputs)), config.batch_size):
            noise = config.noise * torch.randn(len(rows), inputs.shape[1])
            loss = nn.functional.mse_loss(model(inputs[rows] + noise), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        error = _error(_restore(model, validation.inputs), validation.targets)
        if error < best:
            best = error
            torch.save({"config": config.model_dump(mode="json"), "state": model.state_dict()}, output / "shape.pt")
    return _measure(load(output / "shape.pt"), training, parts[Part.CALIBRATION])


def load(file: Path) -> ShapeAutoencoder:
    """Reads an autoencoder that `train` stored, in evaluation mode."""
    saved = torch.load(file, weights_only=True)
    config = ShapeConfig.model_validate(saved["config"])
    model = ShapeAutoencoder(config.hidden, config.code, config.roll)
    model.load_state_dict(saved["state"])
    return model.eval()


def canonical(model: ShapeAutoencoder, landmarks: Floats) -> Floats:
    """Estimates (N, 5, 2) canonical landmarks, around their mean and in eye distances, from (N, 5, 3) in pixels."""
    return _restore(model, np.stack([_input(pose_of(face), model.roll) for face in landmarks])).reshape(-1, POINTS, 2)


def _input(pose: Pose, roll: bool) -> Floats:
    frontal = pose.points + frontal_shift(pose)
    angles = [pose.yaw, pose.pitch, pose.roll] if roll else [pose.yaw, pose.pitch]
    return np.concatenate([frontal.ravel(), np.array(angles) / POSE_SCALE]).astype(np.float32)


def _faces_of(landmarks: Landmarks, config: ShapeConfig, part: Part) -> Faces:
    rows = [row for row, name in enumerate(landmarks.identities) if part_of(name, config.split) is part]
    poses = {row: pose_of(landmarks.points[row]) for row in rows}
    frontal: dict[str, list[npt.NDArray[np.float64]]] = {}
    for row, pose in poses.items():
        if max(abs(pose.yaw), abs(pose.pitch)) < config.frontal_degrees:
            frontal.setdefault(landmarks.identities[row], []).append(pose.points)
    targets = {
        name: np.mean(points, axis=0) for name, points in frontal.items() if len(points) >= config.fewest_frontal
    }
    usable = [row for row in rows if landmarks.identities[row] in targets]
    if not usable:
        raise ConfigError(
            f"nobody in the {part} part has {config.fewest_frontal} pictures from the front; provide more pictures, or "
            "lower fewest_frontal"
        )
    return Faces(
        np.stack([_input(poses[row], config.roll) for row in usable]),
        np.stack([poses[row].points.ravel() for row in usable]).astype(np.float32),
        np.stack([targets[landmarks.identities[row]].ravel() for row in usable]).astype(np.float32),
    )


def _restore(model: ShapeAutoencoder, inputs: Floats) -> Floats:
    model.eval()
    with torch.inference_mode():
        restored = model(torch.from_numpy(inputs)).numpy()
    model.train()
    return restored


def _error(estimates: Floats, targets: Floats) -> float:
    differences = (estimates - targets).reshape(-1, POINTS, 2)
    return float(np.linalg.norm(differences, axis=2).mean())


def _measure(model: ShapeAutoencoder, training: Faces, held_out: Faces) -> ShapeErrors:
    mean = np.broadcast_to(np.unique(training.targets, axis=0).mean(axis=0), held_out.upright.shape)
    return ShapeErrors(
        faces=len(held_out.upright),
        people=len(np.unique(held_out.targets, axis=0)),
        unchanged=_error(held_out.upright, held_out.targets),
        moved_to_front=_error(held_out.inputs[:, : 2 * POINTS], held_out.targets),
        mean_face=_error(np.asarray(mean, np.float32), held_out.targets),
        restored=_error(_restore(model, held_out.inputs), held_out.targets),
    )
