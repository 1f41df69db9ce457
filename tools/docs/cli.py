"""Renders the reference of the command lines from their typer applications."""

import importlib
import inspect
import types
from collections.abc import Iterator
from typing import Any, Union, get_args, get_origin

import typer

from tools.docs.model_tables import cell, escape, sentence, type_text, value_text

PROGRAMS = {"identity-registry": "service.__main__", "identity-trainer": "trainer.__main__"}


def render() -> str:
    """Returns a section for each program and a subsection for each of its commands."""
    lines: list[str] = []
    for program, module in PROGRAMS.items():
        command = typer.main.get_command(importlib.import_module(module).app)
        lines += [f"## {program} {{#{program}}}", ""]
        if command.help:
            lines += [_paragraph(command.help), ""]
        lines += _commands(command, program)
    return "\n".join(lines)


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        full = f"{path} {name}"
        if hasattr(command, "commands"):
            yield from _commands(command, full)
            continue
        yield from (f"### {full} {{#{full.replace(' ', '-')}}}", "", _paragraph(command.help or ""), "")
        yield from ("```", _usage(full, command), "```", "")
        yield from _parameters(command)


def _usage(path: str, command: Any) -> str:
    words = [path]
    for one in command.params:
        if one.param_type_name == "argument":
            words.append(_argument(one))
        elif one.required:
            words.append(f"{max(one.opts, key=len)} {_placeholder(one)}")
    return " ".join([*words, "[OPTIONS]"])


def _placeholder(one: Any) -> str:
    return str(one.metavar or one.name).upper()


def _argument(one: Any) -> str:
    name = (one.metavar or one.name or "").upper()
    name = f"{name}..." if one.nargs == -1 else name
    return name if one.required else f"[{name}]"


def _parameters(command: Any) -> Iterator[str]:
    shown = [one for one in command.params if not getattr(one, "hidden", False)]
    if not shown:
        return
    yield from ("| argument or option | value | default | description |", "| --- | --- | --- | --- |")
    for one in shown:
        names = _argument(one) if one.param_type_name == "argument" else ", ".join([*one.opts, *one.secondary_opts])
        value = "" if getattr(one, "is_flag", False) else _value(one)
        repeat = ", repeatable" if getattr(one, "multiple", False) else ""
        help_text = sentence(getattr(one, "help", None) or "")
        yield f"| `{names}` | {cell(value + repeat)} | {_default(one)} | {cell(help_text)} |"
    yield ""


def _value(one: Any) -> str:
    """Returns the type of a parameter in words. `type_descriptor` is an attribute of typer's own parameter classes."""
    annotation = one.type_descriptor.annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    annotation = members[0] if get_origin(annotation) in {list, Union, types.UnionType} else annotation
    words = type_text(annotation)
    low, high = getattr(one, "min", None), getattr(one, "max", None)
    bounds = [f"≥ {low}"] if low is not None else []
    bounds += [f"≤ {high}"] if high is not None else []
    return " ".join([words, ", ".join(bounds)]).strip()


def _default(one: Any) -> str:
    if one.required:
        return "required"
    if one.default is None or callable(one.default) or one.default in ((), []):
        return ""
    return value_text(list(one.default) if isinstance(one.default, tuple | list) else one.default)


def _paragraph(text: str) -> str:
    """Returns a help text as Markdown paragraphs. `\\b` and `\\f` marks of click are removed."""
    return escape(inspect.cleandoc(text).replace("\b\n", "").replace("\b", "").partition("\f")[0])
