"""Writes and runs LiteRT (formerly TensorFlow Lite) files for phones: one crop in, one normalised embedding out.

Input: (1, size, size, 3) float32 RGB, `(x - 127.5) / 128`, in the row order of Android's bitmaps. The 8-bit file has
the same float input and output; its convolutions compute in int8.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.configuration import missing_package

Floats = npt.NDArray[np.float32]


class _Normalised(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.normalize(self.encoder(pixels), dim=1)


def write_float(encoder: nn.Module, path: Path, shape: tuple[int, ...]) -> None:
    """Writes a float32 file.

    Args:
        shape: (channels, size, size) of a crop.

    Raises:
        ConfigError: litert-torch is not installed.
    """
    with _quiet():
        try:
            import litert_torch
        except ImportError:
            raise missing_package("litert", "litert-torch") from None
        # Channels-last weights are strided views, which the converter copies element by element.
        model = _Normalised(encoder.to(memory_format=torch.contiguous_format)).eval()
        model = litert_torch.to_channel_last_io(model, args=[0])
        litert_torch.convert(model, (torch.zeros(1, *shape[1:], shape[0]),)).export(str(path))


def write_int8(source: Path, path: Path, crops: Floats) -> None:
    """Quantises a float file statically.

    The last linear layer has 8-bit weights but computes in float, and so does the normalisation: int8 steps would
    round the small components of the embedding to zero.

    Args:
        crops: (N, 3, size, size) normalised crops, which determine the value ranges of the layers.
    """
    with _quiet():
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer, recipe

        kinds, algorithms = qtyping.TFLOperationName, algorithm_manager.AlgorithmName
        quantised = quantizer.Quantizer(str(source))
        quantised.load_quantization_recipe(recipe.static_wi8_ai8())
        for kind in (kinds.INPUT, kinds.OUTPUT, kinds.SUM, kinds.MAXIMUM, kinds.DIV):
            quantised.update_quantization_recipe(".*", kind, algorithm_key=algorithms.NO_QUANTIZE)
        quantised.update_quantization_recipe(
            ".*",
            kinds.FULLY_CONNECTED,
            op_config=qtyping.OpQuantizationConfig(
                weight_tensor_config=qtyping.TensorQuantizationConfig(
                    num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
                ),
                compute_precision=qtyping.ComputePrecision.FLOAT,
                explicit_dequantize=True,
            ),
            algorithm_key=algorithms.MIN_MAX_UNIFORM_QUANT,
        )
        name, signature = next(iter(Interpreter(model_path=str(source)).get_signature_list().items()))
        rows = [{signature["inputs"][0]: crop.transpose(1, 2, 0)[None]} for crop in crops]
        path.write_bytes(bytes(quantised.quantize(quantised.calibrate({name: rows})).quantized_model))


def runner(path: Path, threads: int = 1) -> Callable[[Floats], Floats]:
    """Returns a function that runs a file on (N, 3, size, size) crops, one after another."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run_one(crop: Floats) -> Floats:
        interpreter.set_tensor(place, np.ascontiguousarray(crop.transpose(1, 2, 0)[None]))
        interpreter.invoke()
        return np.array(interpreter.get_tensor(result)[0], np.float32)

    return lambda crops: np.stack([run_one(crop) for crop in crops])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the converters' progress messages on both streams."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
