"""A torch model as an ONNX graph of any batch size, with its weights in half precision on disk."""

from pathlib import Path

import torch

from trainer.half_storage import store_weights_as_half

OPSET = 20
LARGEST_BATCH = 4096


def write_graph(model: torch.nn.Module, example: torch.Tensor, path: Path, output: str) -> None:
    """Export a model of one input, whose first axis is the batch, as `crops` to `output`."""
    torch.onnx.export(
        model,
        (example,),
        path,
        input_names=["crops"],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("pictures", min=1, max=LARGEST_BATCH)},),
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    store_weights_as_half(path)
