"""One neural graph on one runtime: OpenVINO where it works best (x86), ONNX Runtime everywhere else."""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.bundle import Precision

Floats = npt.NDArray[np.float32]
Backend = Literal["auto", "openvino", "onnxruntime"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class RuntimeOptions:
    """How graphs are run. `threads` is the number of cores that one call uses.

    `precision`: "auto" is bf16 where OpenVINO runs on a processor that computes in it natively, f32 elsewhere.
    """

    backend: Backend = "auto"
    precision: Precision | Literal["auto"] = "f32"
    threads: int = 2
    device: Device = "cpu"


class Graph(Protocol):
    """Runs (n, channels, h, w) float32 through a model; n may differ from call to call. Not for two threads at once."""

    output_shape: tuple[int, ...]
    """Per input row."""

    def run(self, batch: Floats) -> Floats: ...


def open_graph(path: Path, input_size: int, options: RuntimeOptions, channels: int = 3) -> Graph:
    """Compile a graph for square inputs and run it once, so that no request pays for it.

    Raises:
        StartupError: the runtime can't load it, or its output is not one array with a row per input.
    """
    backend = options.backend
    if backend == "auto":
        on_x86 = platform.machine().lower() in {"x86_64", "amd64"}
        backend = "openvino" if on_x86 and options.device == "cpu" else "onnxruntime"
    try:
        graph = _OpenVino(path, input_size, options, channels) if backend == "openvino" else _OnnxRuntime(path, options)
        trial = graph.run(np.zeros((2, channels, input_size, input_size), np.float32))
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(f"{backend} can't run {path} at {input_size} px: {error}") from error
    if trial.shape[0] != 2:
        raise StartupError(f"{path}: an output of shape {trial.shape} for two inputs")
    graph.output_shape = trial.shape[1:]
    return graph


class _OpenVino:
    def __init__(self, path: Path, input_size: int, options: RuntimeOptions, channels: int) -> None:
        # OpenVINO reports its use over the network unless its telemetry package is missing. Nothing here calls home.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        if options.device != "cpu":
            raise StartupError(f"OpenVINO runs on the CPU here; for {options.device} choose the backend onnxruntime")
        core = openvino.Core()
        model = core.read_model(str(path))
        model.reshape([-1, channels, input_size, input_size])
        precision = options.precision
        if precision == "auto":
            precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        # Without an explicit hint OpenVINO rounds to bf16 silently where the processor can.
        self._compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": precision,
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

        if options.precision == "bf16":
            raise StartupError("ONNX Runtime serves f32 only; choose OpenVINO for bf16, or precision f32")
        providers = ["CPUExecutionProvider"]
        if options.device == "cuda":
            providers = _cuda_providers(onnxruntime)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # Idle threads must not spin: the cores belong to the API as well.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), settings, providers=providers)
        if options.device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise StartupError("ONNX Runtime can't use the GPU: its CUDA libraries or the driver could not be loaded")
        self._input = self._session.get_inputs()[0].name
        self.output_shape: tuple[int, ...] = ()

    def run(self, batch: Floats) -> Floats:
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float32)


def _cuda_providers(onnxruntime: Any) -> list[str]:
    """Raises StartupError where this ONNX Runtime was built without CUDA."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise StartupError(
            "this ONNX Runtime was built without CUDA: install onnxruntime-gpu in its place, or choose "
            "inference.device=cpu"
        )
    onnxruntime.preload_dlls()  # CUDA and cuDNN from the Python packages that brought them
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
