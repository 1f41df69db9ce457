"""Renders the reference of the service's settings from their pydantic models."""

from collections.abc import Iterator

from pydantic import BaseModel

from service.runtime.settings import PREFIX, Settings
from tools.docs.model_tables import cell, field_rows, nested_models, summary

HEADER = "| setting | type | default | description |\n| --- | --- | --- | --- |"


def render() -> str:
    """Returns one section with a table for each section of the settings."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    sections = {name: next(nested_models(field.annotation), None) for name, field in Settings.model_fields.items()}
    yield from ("## General", "", HEADER)
    yield from (_row("", name, *rest) for name, *rest in field_rows(Settings) if sections[name] is None)
    for section, model in sections.items():
        if model is not None:
            yield from _section(section, model)


def _section(section: str, model: type[BaseModel]) -> Iterator[str]:
    yield from ("", f"## {section} {{#{section}}}", "")
    if text := summary(model):
        yield from (text, "")
    yield HEADER
    yield from (_row(f"{section}.", *row) for row in field_rows(model))


def _row(prefix: str, name: str, kind: str, default: str, description: str) -> str:
    key = f"{prefix}{name}"
    variable = PREFIX + key.upper().replace(".", "__")
    return f'| <span id="{key}"></span>`{key}`<br>`{variable}` | {cell(kind)} | {cell(default)} | {cell(description)} |'
