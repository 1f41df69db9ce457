"""Renders the reference of the trainer's configuration files from their pydantic models."""

import importlib
import pkgutil
from collections.abc import Iterator

from pydantic import BaseModel

import trainer
from tools.docs.model_tables import cell, field_rows, nested_models, summary
from trainer.configuration import Configuration

HEADER = "| key | type | default | description |\n| --- | --- | --- | --- |"
FILES = {
    "EmbedderConfig": ("Embedder", "identity-trainer train", "configs/train.yaml"),
    "DetectorConfig": ("Detector", "identity-trainer detector train", "configs/detector.yaml"),
    "CompositeConfig": ("Detector composites", "identity-trainer detector compose", "the defaults"),
    "LandmarkConfig": ("Landmark refinement and face verification", "identity-trainer landmarks train",
                       "configs/landmarks.yaml"),
    "ClassifierConfig": ("Classifier", "identity-trainer classifier fit", "configs/classifier.yaml"),
    "SweepConfig": ("Comparison of encoders", "identity-trainer sweep", "configs/sweep.yaml"),
    "TuneConfig": ("Search for settings", "identity-trainer tune", "configs/tune.yaml"),
    "ShapeConfig": ("Landmark autoencoder", "identity-trainer shape train", "configs/shape.yaml"),
}  # fmt: skip
"""Top-level configuration classes: title, command that reads the file, example."""


def render() -> str:
    """Returns one section for each configuration file and one for each block that they contain."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    classes = {model.__name__: model for model in _configurations()}
    shown: set[type[BaseModel]] = set()
    for name, (title, command, example) in FILES.items():
        model = classes[name]
        yield from (f"## {title} {{#{name.lower()}}}", "", f"Command: `{command}`. Example: `{example}`.", "")
        for part in _with_nested(model):
            if part not in shown:
                shown.add(part)
                yield from _table(part, heading=part is not model)


def _table(model: type[BaseModel], *, heading: bool) -> Iterator[str]:
    if heading:
        yield from (f"### {model.__name__} {{#{model.__name__.lower()}}}", "")
    if text := summary(model):
        yield from (text, "")
    yield HEADER
    for row in field_rows(model):
        yield f"| `{row[0]}` | {' | '.join(cell(text) for text in row[1:])} |"
    yield ""


def _with_nested(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Returns the model and every model that its fields contain, at any depth, each once."""
    order = [model]
    for member in order:
        fields = member.model_fields.values()
        order += [
            part
            for part in dict.fromkeys(part for field in fields for part in nested_models(field.annotation))
            if part not in order
        ]
    return order


def _configurations() -> Iterator[type[Configuration]]:
    """Imports every module of the trainer that defines configuration classes and yields all of them."""
    for module in pkgutil.walk_packages(trainer.__path__, "trainer."):
        if module.name.rpartition(".")[2] in {"config", "loss_config", "composites"}:
            importlib.import_module(module.name)
    yield from _subclasses(Configuration)


def _subclasses(model: type[Configuration]) -> Iterator[type[Configuration]]:
    for child in model.__subclasses__():
        yield child
        yield from _subclasses(child)
