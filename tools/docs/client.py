"""Renders the methods of the Python client from the definitions of its operations."""

import inspect
from collections.abc import Iterator
from typing import Any

from identity_registry import Registry
from identity_registry.binding import listing, operation
from tools.docs.model_tables import cell


def render() -> str:
    """Returns one table with every method, its arguments, its result and its purpose."""
    header = ["| method | arguments | result | purpose |", "| --- | --- | --- | --- |"]
    return "\n".join(header + list(_rows()))


def _rows() -> Iterator[str]:
    for kind in Registry.__mro__:
        for name, value in vars(kind).items():
            if isinstance(value, operation | listing):
                yield _row(name, value.definition, is_list=isinstance(value, listing))


def _row(name: str, definition: Any, *, is_list: bool) -> str:
    signature = inspect.signature(definition)
    arguments = ", ".join(f"`{argument}`" for argument in list(signature.parameters)[1:])
    result = _inner(signature.return_annotation)
    purpose = (inspect.getdoc(definition) or "").splitlines()[0]
    return f"| `{name}` | {arguments} | {'iterator of ' if is_list else ''}`{result}` | {cell(purpose)} |"


def _inner(annotation: Any) -> str:
    """Returns the name of X in `Request[X]` or `Listing[X]`."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.partition("[")[2].removesuffix("]").rpartition(".")[2]
