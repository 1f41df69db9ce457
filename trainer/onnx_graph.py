"""Exports torch models as ONNX graphs and prepares ONNX files for a bundle."""

from pathlib import Path

import onnx
import torch

from trainer.graph_metadata import strip_metadata
from trainer.half_storage import store_weights_as_half

OPSET = 20
MAX_BATCH = 4096


def write_graph(model: torch.nn.Module, example: torch.Tensor, path: Path, output: str) -> None:
    """Exports a model with one input, `crops`, and one output to an ONNX file, ready for a bundle.

    Args:
        example: input of the traced call. Its first axis becomes a batch of 1 to `MAX_BATCH`; the others are fixed.
        output: name of the output.
    """
    torch.onnx.export(
        model,
        (example,),
        path,
        input_names=["crops"],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("pictures", min=1, max=MAX_BATCH)},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    prepare_for_bundle(path)


def prepare_for_bundle(path: Path) -> None:
    """Rewrites an ONNX file with its weights in half precision and without metadata of the exporting machine."""
    model = onnx.load(path)
    store_weights_as_half(model)
    strip_metadata(model)
    onnx.checker.check_model(model)
    onnx.save(model, path)
