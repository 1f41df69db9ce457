"""One neural graph on one runtime: OpenVINO where it works best (x86), ONNX Runtime everywhere else."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import Precision

Floats = npt.NDArray[np.float32]
Backend = Literal["auto", "openvino", "onnxruntime"]


@dataclass(frozen=True)
class RuntimeOptions:
    """How graphs are run. `threads` is the number of cores that one call uses."""

    backend: Backend = "auto"
    precision: Precision = "f32"
    threads: int = 2


class Graph(Protocol):
    """Runs (n, 3, h, w) float32 through a model; n may differ from call to call. Not for two threads at once."""

    output_shape: tuple[int, ...]
    """Per input row."""

    def run(self, batch: Floats) -> Floats: ...


def open_graph(path: Path, input_size: int, options: RuntimeOptions) -> Graph:
    """Compile a graph for square inputs and run it once, so that no request pays for it.

    Raises:
        StartupError: the runtime can't load it, or its output is not one array with a row per input.
    """
    backend = options.backend
    if backend == "auto":
        backend = "openvino" if platform.machine().lower() in {"x86_64", "amd64"} else "onnxruntime"
    try:
        graph = _OpenVino(path, input_size, options) if backend == "openvino" else _OnnxRuntime(path, options)
        trial = graph.run(np.zeros((2, 3, input_size, input_size), np.float32))
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(f"{backend} can't run {path} at {input_size} px: {error}") from error
    if trial.shape[0] != 2:
        raise StartupError(f"{path}: an output of shape {trial.shape} for two inputs")
    graph.output_shape = trial.shape[1:]
    return graph


class _OpenVino:
    def __init__(self, path: Path, input_size: int, options: RuntimeOptions) -> None:
        import openvino

        core = openvino.Core()
        model = core.read_model(str(path))
        model.reshape([-1, 3, input_size, input_size])
        # Without an explicit hint OpenVINO rounds to bf16 silently where the processor can.
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": options.precision,
                "INFERENCE_NUM_THREADS": options.threads,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        self._request = self._compiled.create_infer_request()
        self.output_shape: tuple[int, ...] = ()

    def run(self, batch: Floats) -> Floats:
        self._request.infer({0: np.ascontiguousarray(batch)}, share_inputs=True)
        return np.array(self._request.get_output_tensor(0).data, np.float32)


class _OnnxRuntime:
    def __init__(self, path: Path, options: RuntimeOptions) -> None:
        import onnxruntime

        if options.precision != "f32":
            raise StartupError("ONNX Runtime serves f32 only; choose OpenVINO for bf16, or precision f32")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # Idle threads must not spin: the cores belong to the API as well.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self.output_shape: tuple[int, ...] = ()

    def run(self, batch: Floats) -> Floats:
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float32)
