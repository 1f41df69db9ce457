"""Renders pydantic models as Markdown tables: types, ranges, defaults and descriptions of their fields."""

import enum
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[2]
NAMES: dict[Any, str] = {
    bool: "`true` or `false`",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret text",
    Any: "any value",
    type(None): "unset",
}
BOUNDS = (("ge", "≥ {}"), ("gt", "> {}"), ("le", "≤ {}"), ("lt", "< {}"), ("multiple_of", "multiple of {}"))
LENGTHS = (("min_length", "at least {} {}"), ("max_length", "at most {} {}"))
ATTRIBUTE = re.compile(r"^(?P<names>\w+(?:, \w+)*): (?P<text>.*)$")


def cell(text: str) -> str:
    """Returns the text as the content of one table cell."""
    return " ".join(escape(text).replace("|", "\\|").split())


def escape(text: str) -> str:
    """Escapes angle brackets outside code spans, which Markdown would read as HTML."""
    parts = text.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace(">", "&gt;") for part in parts[::2]]
    return "`".join(parts)


def sentence(text: str) -> str:
    """Returns the text with a capital first word and a full stop. Keeps a code span, a value or a URL at the start."""
    text = " ".join(text.split())
    if not text:
        return ""
    if re.match(r"[a-z]+(?=[ ,;])|(default|unset)(?=:)", text):
        text = text[0].upper() + text[1:]
    return text if text.endswith((".", "`", ":")) else f"{text}."


def nested_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yields the pydantic models that occur in an annotation, in their order."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from nested_models(argument)


def type_text(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """Returns a type in words, with the bounds that its metadata contains."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0], (*arguments[1:], *metadata))
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in {Union, types.UnionType}:
        # Bounds of a union are those of its members: `int | None` with `ge=1` is an integer of at least 1, or unset.
        return " or ".join(type_text(member, () if member is type(None) else metadata) for member in arguments)
    if origin in {list, tuple}:
        members = [member for member in arguments if member is not Ellipsis]
        listed = [type_text(member) for member in members]
        words = f"list of {listed[0]}" if origin is list or Ellipsis in arguments else f"[{', '.join(listed)}]"
        return words + bounds_text(metadata, "entries")
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation))) + bounds_text(metadata, "characters")


def bounds_text(metadata: tuple[Any, ...], unit: str) -> str:
    """Returns the numeric and length bounds of a field, for example ` ≥ 1, ≤ 64`."""
    parts = []
    for source in (item for entry in metadata for item in (getattr(entry, "metadata", None) or [entry])):
        parts += [
            words.format(f"{value:,}" if isinstance(value, int) and value >= 10_000 else value)
            for name, words in BOUNDS
            if (value := getattr(source, name, None)) is not None
        ]
        parts += [
            words.format(value, unit) for name, words in LENGTHS if (value := getattr(source, name, None)) is not None
        ]
    return f" {', '.join(parts)}" if parts else ""


def default_text(field: FieldInfo) -> str:
    """Returns the default of a field. Paths do not depend on the machine that renders them."""
    if field.default is PydanticUndefined and field.default_factory is None:
        return "required"
    if field.default is PydanticUndefined:
        value = field.get_default(call_default_factory=True, validated_data={})
        return value_text(value) if not isinstance(value, Path) else "the data folder of the user account"
    return value_text(field.default)


def value_text(value: Any) -> str:
    """Returns a default value as YAML would write it, inside backquotes."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT) if value.is_relative_to(ROOT) else value}`"
    if isinstance(value, BaseModel):
        fields = ", ".join(
            f"{name}: {value_text(getattr(value, name)).strip('`')}"
            for name in type(value).model_fields
            if name in value.model_fields_set
        )
        return f"`{{{fields}}}`" if fields else "its defaults"
    if isinstance(value, enum.Enum):
        return f"`{value.value}`"
    if isinstance(value, dict | list | tuple) and not value:
        return "`{}`" if isinstance(value, dict) else "`[]`"
    if isinstance(value, list | tuple):
        return f"`[{', '.join(value_text(item).strip('`') for item in value)}]`"
    return f"`{value}`"


def summary(model: type) -> str:
    """Returns a model's own docstring without its `Attributes:` section."""
    text = inspect.cleandoc(model.__dict__.get("__doc__") or "")
    return text.split("Attributes:")[0].strip()


def attributes(model: type) -> dict[str, str]:
    """Returns the descriptions in the `Attributes:` sections of a model and of its bases, by field name."""
    result: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = inspect.cleandoc(base.__dict__.get("__doc__") or "")
        names: list[str] = []
        for line in text.partition("Attributes:")[2].splitlines():
            if entry := ATTRIBUTE.match(line.strip()) if line.startswith("    ") and line[4:5] != " " else None:
                names = entry["names"].split(", ")
                result |= dict.fromkeys(names, entry["text"])
            elif line.strip():
                result |= {name: f"{result[name]} {line.strip()}" for name in names}
    return result


def field_rows(model: type[BaseModel]) -> Iterator[tuple[str, str, str, str]]:
    """Yields name, type, default and description of every field."""
    described = attributes(model)
    for name, field in model.model_fields.items():
        text = field.description or described.get(name, "")
        yield name, type_text(field.annotation, tuple(field.metadata)), default_text(field), sentence(text)
