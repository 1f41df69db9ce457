"""Computes and caches the embeddings of teachers for distillation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

from service.inference.bundle import read_embedder
from service.inference.manifest import PixelScaling
from trainer.cache import cached_array, content_key
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE, CENTRE_SIZE, AlignedCrops
from trainer.embedder.checkpoints import graph_of
from trainer.progress import track

Floats = npt.NDArray[np.float32]
USUAL_SCALING = PixelScaling(mean=127.5, std=128.0)


@dataclass(frozen=True)
class Teacher:
    """A network to distil from.

    Attributes:
        graph: ONNX graph from (1, 3, 112, 112) to (1, D).
        scaling: of the pixels; that of the bundle, or `(x - 127.5) / 128` of RGB for a graph alone.
    """

    graph: Path
    scaling: PixelScaling = USUAL_SCALING

    @classmethod
    def of(cls, path: Path) -> "Teacher":
        """Opens an ONNX graph or an embedder bundle.

        Raises:
            ConfigError: The bundle's model does not receive plain aligned crops of 112 x 112 pixels.
            StartupError: The bundle is invalid.
        """
        if not path.is_dir():
            return cls(path)
        manifest = read_embedder(path)
        if manifest.input_size != CENTRE_SIZE or manifest.filters.any or manifest.landmark_channels is not None:
            raise ConfigError(
                f"{path} cannot be a teacher: its model needs filters, landmark channels or crops of another size than "
                f"{CENTRE_SIZE} pixels"
            )
        return cls(graph_of(path), manifest.scaling)

    def input_of(self, crop: npt.NDArray[np.uint8]) -> Floats:
        """Returns the (1, 3, 112, 112) input of an RGB crop."""
        ordered = crop if self.scaling.colour_order == "RGB" else crop[..., ::-1]
        pixels = (ordered.transpose(2, 0, 1)[None].astype(np.float32) - self.scaling.mean) / self.scaling.std
        return np.asarray(pixels, np.float32)


def teacher_embeddings(
    teachers: Sequence[Path], crops: AlignedCrops, cache: Path, dim: int, used: npt.NDArray[np.bool_] | None = None
) -> Floats:
    """Returns (N, D) normalised embeddings; each is the mean of the embeddings of a picture and of its mirror picture.

    The embeddings of several teachers are concatenated, so that a cosine is the mean of the teachers' cosines, and
    projected on their `dim` principal axes, which keep the cosines best.

    Args:
        teachers: ONNX graphs or embedder bundles.
        dim: Largest D of several teachers; one teacher keeps its own dimension.
        used: (N,) the pictures whose embeddings are needed; those of the others are 0. None: all.

    Raises:
        ConfigError: A graph has another input.
        StartupError: A bundle is invalid.
    """
    rows = np.arange(len(crops)) if used is None else np.flatnonzero(used)
    parts = [_cached(Teacher.of(path), crops, rows, cache) for path in teachers]
    combined = parts[0] if len(parts) == 1 else _principal(np.concatenate(parts, axis=1), dim)
    embeddings = np.zeros((len(crops), combined.shape[1]), np.float32)
    embeddings[rows] = combined
    return embeddings


def _principal(embeddings: Floats, dim: int) -> Floats:
    """Returns (N, at most dim) normalised projections on the axes with the largest second moments.

    A random rotation then gives all numbers about the same variance, as the last batch norm of a new encoder does.
    """
    _, axes = np.linalg.eigh(embeddings.T.astype(np.float64) @ embeddings)
    kept = axes[:, -dim:]
    rotation, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((kept.shape[1], kept.shape[1])))
    projected = embeddings @ (kept @ rotation)
    return np.asarray(projected / np.linalg.norm(projected, axis=1, keepdims=True), np.float32)


def _cached(teacher: Teacher, crops: AlignedCrops, rows: npt.NDArray[np.int64], cache: Path) -> Floats:
    key = content_key(teacher.graph, teacher.scaling.model_dump_json(), crops.key, rows.tobytes())
    return cached_array(cache / f"teacher-{key}.npy", lambda: _embed(teacher, crops, rows))


def _embed(teacher: Teacher, crops: AlignedCrops, rows: npt.NDArray[np.int64]) -> Floats:
    graph = _open(teacher.graph)
    both = np.zeros((2, len(rows), *graph.output(0).shape[1:]), np.float32)
    queue = openvino.AsyncInferQueue(graph)

    def collect(request: openvino.InferRequest, position: tuple[int, int]) -> None:
        output = request.get_output_tensor(0).data[0]
        both[position] = output / np.linalg.norm(output)

    queue.set_callback(collect)
    # Many published graphs accept a batch of one only, so pictures are sent one by one, several requests at a time.
    for index, row in enumerate(track(rows, description=f"embedding with {teacher.graph.name}")):
        pixels = teacher.input_of(crops.pictures[row, CENTRE, CENTRE])
        queue.start_async({0: pixels}, (0, index))
        queue.start_async({0: np.ascontiguousarray(pixels[..., ::-1])}, (1, index))
    queue.wait_all()
    embeddings = both.sum(axis=0)
    return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), np.float32)


def _open(graph: Path) -> openvino.CompiledModel:
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(str(graph))
    try:
        model.reshape([1, 3, CENTRE_SIZE, CENTRE_SIZE])
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ConfigError(f"{graph} does not accept (1, 3, {CENTRE_SIZE}, {CENTRE_SIZE}) input: {error}") from None
