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
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words.append(_argument(parameter))
        elif parameter.required:
            words.append(f"{max(parameter.opts, key=len)} {_placeholder(parameter)}")
    return " ".join([*words, "[OPTIONS]"])


def _placeholder(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name).upper()


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name or "").upper()
    name = f"{name}..." if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _parameters(command: Any) -> Iterator[str]:
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    if not shown:
        return
    yield from ("| argument or option | value | default | description |", "| --- | --- | --- | --- |")
    for parameter in shown:
        names = (
            _argument(parameter)
            if parameter.param_type_name == "argument"
            else ", ".join([*parameter.opts, *parameter.secondary_opts])
        )
        value = "" if getattr(parameter, "is_flag", False) else _value(parameter)
        repeat = ", repeatable" if getattr(parameter, "multiple", False) else ""
        help_text = sentence(getattr(parameter, "help", None) or "")
        yield f"| `{names}` | {cell(value + repeat)} | {_default(parameter)} | {cell(help_text)} |"
    yield ""


def _value(parameter: Any) -> str:
    """Returns the type of a parameter in words. `type_descriptor` is an attribute of typer's own parameter classes."""
    annotation = parameter.type_descriptor.annotation
    members = [member for member in get_args(annotation) if member is not type(None)]
    annotation = members[0] if get_origin(annotation) in {list, Union, types.UnionType} else annotation
    words = type_text(annotation)
    low, high = getattr(parameter, "min", None), getattr(parameter, "max", None)
    bounds = [f"≥ {low}"] if low is not None else []
    bounds += [f"≤ {high}"] if high is not None else []
    return " ".join([words, ", ".join(bounds)]).strip()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default is None or callable(parameter.default) or parameter.default in ((), []):
        return ""
    return value_text(list(parameter.default) if isinstance(parameter.default, tuple | list) else parameter.default)


def _paragraph(text: str) -> str:
    """Returns a help text as Markdown paragraphs. `\\b` and `\\f` marks of click are removed."""
    return escape(inspect.cleandoc(text).replace("\b\n", "").replace("\b", "").partition("\f")[0])
