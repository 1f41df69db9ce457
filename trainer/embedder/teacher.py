"""A teacher's embeddings of every canvas, computed once."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino
from rich.progress import track

from trainer.configuration import ConfigError
from trainer.embedder.canvases import MIDDLE, CanvasSet
from trainer.embedder.kept import kept


def teacher_embeddings(teacher: Path, canvases: CanvasSet, cache: Path) -> npt.NDArray[np.float32]:
    """(N, D) normalised embeddings of the middle crops, each the mean with its mirror picture.

    Args:
        teacher: ONNX graph from (1, 3, 112, 112) RGB, `(x - 127.5) / 128`, to (1, D); a bundle's graph is one.

    Raises:
        ConfigError: the graph is no such.
    """
    key = hashlib.sha256(teacher.read_bytes() + canvases.key.encode()).hexdigest()[:16]
    return kept(cache / f"teacher-{key}.npy", lambda: _embed(teacher, canvases))


def _embed(teacher: Path, canvases: CanvasSet) -> npt.NDArray[np.float32]:
    """One picture a call, since many published graphs have a fixed batch of one, and several calls at once."""
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(str(teacher))
    side = MIDDLE.stop - MIDDLE.start
    try:
        model.reshape([1, 3, side, side])
        graph = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ConfigError(f"{teacher} takes no (1, 3, {side}, {side}) pictures: {error}") from None
    both = np.zeros((2, len(canvases), *graph.output(0).shape[1:]), np.float32)
    queue = openvino.AsyncInferQueue(graph)

    def collect(request: openvino.InferRequest, position: tuple[int, int]) -> None:
        output = request.get_output_tensor(0).data[0]
        both[position] = output / np.linalg.norm(output)

    queue.set_callback(collect)
    for row in track(range(len(canvases)), description="embedding with the teacher"):
        crop = canvases.pictures[row, MIDDLE, MIDDLE].transpose(2, 0, 1)[None]
        pixels = (crop.astype(np.float32) - 127.5) / 128
        queue.start_async({0: pixels}, (0, row))
        queue.start_async({0: np.ascontiguousarray(pixels[..., ::-1])}, (1, row))
    queue.wait_all()
    embeddings = both.sum(axis=0)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
