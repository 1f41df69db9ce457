"""From a face's landmarks, however it is turned, to where they would be from the front."""

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.split import Part, part_of
from trainer.shape.chunks import Landmarks
from trainer.shape.config import ShapeConfig
from trainer.shape.pose import EYES_MM, HEAD, Pose, pose_of

Floats = npt.NDArray[np.float32]
SIDE = 90.0
"""Degrees that count as one, as an input."""
POINTS = 5


class ShapeAutoencoder(nn.Module):
    """(N, 12) landmarks with yaw and pitch to (N, 10) canonical landmarks, through a code of a few numbers.

    The landmarks come turned to the front as the average head's points would; what is learned is how far this face
    differs from that head. Landmarks as they are, without that, came no nearer than everybody's mean face.
    """

    def __init__(self, hidden: int, code: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2 * POINTS + 2, hidden), nn.GELU(), nn.Linear(hidden, code))
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.GELU(), nn.Linear(hidden, 2 * POINTS))

    def forward(self, faces: Tensor) -> Tensor:
        return faces[:, : 2 * POINTS] + cast("Tensor", self.decoder(self.encoder(faces)))


@dataclass(frozen=True)
class Faces:
    """`inputs` (N, 12), `seen` (N, 10) upright landmarks as they are, `targets` (N, 10) the person's canonical ones."""

    inputs: Floats
    seen: Floats
    targets: Floats


@dataclass(frozen=True)
class ShapeErrors:
    """Mean distance of landmarks to their person's canonical ones in eye distances, of people who trained nothing.

    Attributes:
        untouched: of the landmarks as they are.
        turned_back: of the landmarks, each moved as the average head's point moves when it is turned to the front.
        everybody: of everybody's mean face.
        restored: of the autoencoder's.
    """

    faces: int
    people: int
    untouched: float
    turned_back: float
    everybody: float
    restored: float


def train(landmarks: Landmarks, config: ShapeConfig, output: Path) -> ShapeErrors:
    """Train, keep the best epoch in `shape.pt`, and measure it on the people of the calibration part.

    Raises:
        ConfigError: a part has nobody with enough pictures from the front.
    """
    torch.manual_seed(config.seed)
    parts = {part: _faces_of(landmarks, config, part) for part in (Part.TRAIN, Part.VALIDATION, Part.CALIBRATION)}
    model = ShapeAutoencoder(config.hidden, config.code)
    optimizer = torch.optim.Adam(model.parameters(), config.learning_rate)
    inputs, targets = (torch.from_numpy(part) for part in (parts[Part.TRAIN].inputs, parts[Part.TRAIN].targets))
    best = np.inf
    output.mkdir(parents=True, exist_ok=True)
    for _ in track(range(config.epochs), description="training the autoencoder"):
        for rows in torch.split(torch.randperm(len(inputs)), config.batch_size):
            noise = config.noise * torch.randn(len(rows), inputs.shape[1])
            loss = nn.functional.mse_loss(model(inputs[rows] + noise), targets[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        error = _error(_restore(model, parts[Part.VALIDATION].inputs), parts[Part.VALIDATION].targets)
        if error < best:
            best = error
            torch.save({"config": config.model_dump(mode="json"), "state": model.state_dict()}, output / "shape.pt")
    return _measure(load(output / "shape.pt"), parts[Part.TRAIN], parts[Part.CALIBRATION])


def load(file: Path) -> ShapeAutoencoder:
    saved = torch.load(file, weights_only=True)
    config = ShapeConfig.model_validate(saved["config"])
    model = ShapeAutoencoder(config.hidden, config.code)
    model.load_state_dict(saved["state"])
    return model.eval()


def canonical(model: ShapeAutoencoder, landmarks: Floats) -> Floats:
    """(N, 5, 2) canonical landmarks, in eye distances around their mean, of (N, 5, 3) in a picture."""
    return _restore(model, np.stack([_input(pose_of(face)) for face in landmarks])).reshape(-1, POINTS, 2)


def _input(pose: Pose) -> Floats:
    frontal = pose.points + _turning(pose)
    return np.concatenate([frontal.ravel(), [pose.yaw / SIDE, pose.pitch / SIDE]]).astype(np.float32)


def _faces_of(landmarks: Landmarks, config: ShapeConfig, part: Part) -> Faces:
    rows = [row for row, name in enumerate(landmarks.identities) if part_of(name, config.split) is part]
    poses = {row: pose_of(landmarks.points[row]) for row in rows}
    frontal: dict[str, list[npt.NDArray[np.float64]]] = {}
    for row, pose in poses.items():
        if max(abs(pose.yaw), abs(pose.pitch)) < config.frontal_degrees:
            frontal.setdefault(landmarks.identities[row], []).append(pose.points)
    faces = {name: np.mean(seen, axis=0) for name, seen in frontal.items() if len(seen) >= config.fewest_frontal}
    known = [row for row in rows if landmarks.identities[row] in faces]
    if not known:
        raise ConfigError(f"nobody of the {part} part has {config.fewest_frontal} pictures from the front")
    return Faces(
        np.stack([_input(poses[row]) for row in known]),
        np.stack([poses[row].points.ravel() for row in known]).astype(np.float32),
        np.stack([faces[landmarks.identities[row]].ravel() for row in known]).astype(np.float32),
    )


def _restore(model: ShapeAutoencoder, inputs: Floats) -> Floats:
    model.eval()
    with torch.inference_mode():
        restored = model(torch.from_numpy(inputs)).numpy()
    model.train()
    return restored


def _error(found: Floats, targets: Floats) -> float:
    apart = (found - targets).reshape(-1, POINTS, 2)
    return float(np.linalg.norm(apart, axis=2).mean())


def _measure(model: ShapeAutoencoder, known: Faces, held_out: Faces) -> ShapeErrors:
    seen = held_out.seen
    mean = np.broadcast_to(np.unique(known.targets, axis=0).mean(axis=0), seen.shape)
    return ShapeErrors(
        faces=len(seen),
        people=len(np.unique(held_out.targets, axis=0)),
        untouched=_error(seen, held_out.targets),
        turned_back=_error(held_out.inputs[:, : 2 * POINTS], held_out.targets),
        everybody=_error(np.asarray(mean, np.float32), held_out.targets),
        restored=_error(_restore(model, held_out.inputs), held_out.targets),
    )


def _turning(pose: Pose) -> npt.NDArray[np.float64]:
    """(5, 2) by how much each point of the average head moves when it is turned to the front."""
    head = (HEAD - HEAD.mean(axis=0)) / EYES_MM
    yaw, pitch = np.radians([pose.yaw, pose.pitch])
    x = np.cos(yaw) * head[:, 0] - np.sin(yaw) * head[:, 2]
    depth = np.sin(yaw) * head[:, 0] + np.cos(yaw) * head[:, 2]
    y = np.cos(pitch) * head[:, 1] - np.sin(pitch) * depth
    return np.stack([head[:, 0] - x, head[:, 1] - y], axis=1)
