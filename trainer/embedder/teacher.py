"""Computes and caches the teacher's embeddings for distillation."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

from trainer.cache import cached_array, content_key
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import CENTRE, CENTRE_SIZE, AlignedCrops
from trainer.progress import track


def teacher_embeddings(teacher: Path, crops: AlignedCrops, cache: Path) -> npt.NDArray[np.float32]:
    """Returns (N, D) normalised embeddings; each is the mean of the embeddings of a picture and of its mirror picture.

    Args:
        teacher: ONNX graph from (1, 3, 112, 112) RGB, `(x - 127.5) / 128`, to (1, D); the graph of a bundle is one.

    Raises:
        ConfigError: The graph has another input.
    """
    file = cache / f"teacher-{content_key(teacher, crops.key)}.npy"
    return cached_array(file, lambda: _embed(teacher, crops))


def _embed(teacher: Path, crops: AlignedCrops) -> npt.NDArray[np.float32]:
    graph = _open(teacher)
    both = np.zeros((2, len(crops), *graph.output(0).shape[1:]), np.float32)
    queue = openvino.AsyncInferQueue(graph)

    def collect(request: openvino.InferRequest, position: tuple[int, int]) -> None:
        output = request.get_output_tensor(0).data[0]
        both[position] = output / np.linalg.norm(output)

    queue.set_callback(collect)
    # Many published graphs accept a batch of one only, so pictures are sent one by one, several requests at a time.
    for row in track(range(len(crops)), description="embedding with the teacher"):
        crop = crops.pictures[row, CENTRE, CENTRE].transpose(2, 0, 1)[None]
        pixels = (crop.astype(np.float32) - 127.5) / 128
        queue.start_async({0: pixels}, (0, row))
        queue.start_async({0: np.ascontiguousarray(pixels[..., ::-1])}, (1, row))
    queue.wait_all()
    embeddings = both.sum(axis=0)
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)


def _open(teacher: Path) -> openvino.CompiledModel:
    options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(str(teacher))
    try:
        model.reshape([1, 3, CENTRE_SIZE, CENTRE_SIZE])
        return core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise ConfigError(f"{teacher} does not accept (1, 3, {CENTRE_SIZE}, {CENTRE_SIZE}) input: {error}") from None
