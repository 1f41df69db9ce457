"""Removes data about the exporting machine from ONNX models."""

from typing import Any

import onnx

_MODEL_FIELDS = ("producer_name", "producer_version", "domain", "model_version")
_FIELDS = ("doc_string", "metadata_props")


def strip_metadata(model: onnx.ModelProto) -> None:
    """Deletes producer, documentation strings and metadata properties of a model and of everything in it, in place.

    `torch.onnx.export` stores stack traces with file paths in them. Operators, attributes, weights, and the names of
    nodes and tensors stay the same, so the outputs do too.
    """
    for field in _MODEL_FIELDS:
        model.ClearField(field)
    _strip(model)


def _strip(message: Any) -> None:
    """Clears `_FIELDS` in a protobuf message and in its nested messages: nodes, values, functions, subgraphs."""
    for descriptor, value in message.ListFields():
        if descriptor.name in _FIELDS:
            message.ClearField(descriptor.name)
        elif descriptor.message_type is not None:
            is_single = hasattr(value, "ListFields")
            for nested in [value] if is_single else value:
                _strip(nested)
