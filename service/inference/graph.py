"""Runs one neural graph with OpenVINO or ONNX Runtime."""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.errors import StartupError
from service.inference.calibration import Precision

Floats = npt.NDArray[np.float32]
Backend = Literal["auto", "openvino", "onnxruntime"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class RuntimeOptions:
    """Options of a runtime.

    Attributes:
        backend: "auto" is OpenVINO on x86 processors and ONNX Runtime elsewhere.
        precision: "auto" is bf16 if the backend is OpenVINO and the processor supports bf16, otherwise f32.
        threads: number of cores that one call uses.
    """

    backend: Backend = "auto"
    precision: Precision | Literal["auto"] = "f32"
    threads: int = 2
    device: Device = "cpu"


class Graph(Protocol):
    """A compiled graph. It is not thread-safe.

    Attributes:
        output_shape: shape of the output of one input row.
    """

    output_shape: tuple[int, ...]

    def run(self, batch: Floats) -> Floats:
        """Returns (n, *output_shape) for (n, channels, height, width); n may differ between calls."""
        ...


def open_graph(
    path: Path, input_size: int, options: RuntimeOptions, channels: int = 3, resizable: bool = False
) -> Graph:
    """Compiles a graph and runs it once, so that the first request is not slower than the others.

    Args:
        input_size: side of the inputs in pixels.
        resizable: the graph also accepts inputs of other sizes, whose outputs may have other shapes. One graph for all
            sizes takes less memory than one for each, and at most 5 % more time.

    Raises:
        StartupError: the runtime cannot load or run the graph, or the output does not have one row per input.
    """
    backend = options.backend
    if backend == "auto":
        on_x86 = platform.machine().lower() in {"x86_64", "amd64"}
        backend = "openvino" if on_x86 and options.device == "cpu" else "onnxruntime"
    try:
        if backend == "openvino":
            graph: Graph = _OpenVino(path, None if resizable else input_size, options, channels)
        else:
            graph = _OnnxRuntime(path, options)
        trial = graph.run(np.zeros((2, channels, input_size, input_size), np.float32))
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(f"{backend} cannot run {path} with inputs of {input_size} px: {error}") from error
    if trial.shape[0] != 2:
        raise StartupError(f"{path}: for a batch of two inputs the output has the shape {trial.shape}; it needs 2 rows")
    graph.output_shape = trial.shape[1:]
    return graph


class _OpenVino:
    def __init__(self, path: Path, input_size: int | None, options: RuntimeOptions, channels: int) -> None:
        # OpenVINO reports its use over the network if the package openvino_telemetry can be imported.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino

        if options.device != "cpu":
            raise StartupError(
                f"the OpenVINO backend supports device cpu only: set inference.backend=onnxruntime for {options.device}"
            )
        core = openvino.Core()
        model = core.read_model(str(path))
        side = -1 if input_size is None else input_size
        model.reshape([-1, channels, side, side])
        precision = options.precision
        if precision == "auto":
            precision = "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
        # Without an explicit hint OpenVINO uses bf16 on every processor that supports it.
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
            raise StartupError(
                "the ONNX Runtime backend supports f32 only: set inference.backend=openvino or inference.precision=f32"
            )
        providers = ["CPUExecutionProvider"]
        if options.device == "cuda":
            providers = _cuda_providers(onnxruntime)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # Spinning threads would take the cores from the API.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), settings, providers=providers)
        if options.device == "cuda" and "CUDAExecutionProvider" not in self._session.get_providers():
            raise StartupError(
                "ONNX Runtime cannot use the GPU: loading the CUDA libraries or the driver failed; install them or set "
                "inference.device=cpu"
            )
        self._input = self._session.get_inputs()[0].name
        self.output_shape: tuple[int, ...] = ()

    def run(self, batch: Floats) -> Floats:
        return np.asarray(self._session.run(None, {self._input: batch})[0], np.float32)


def _cuda_providers(onnxruntime: Any) -> list[str]:
    """Returns the execution providers for CUDA. Raises StartupError if this ONNX Runtime was built without CUDA."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise StartupError(
            "this ONNX Runtime was built without CUDA: replace the package onnxruntime by onnxruntime-gpu, or set "
            "inference.device=cpu"
        )
    onnxruntime.preload_dlls()  # Loads CUDA and cuDNN from installed Python packages.
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
