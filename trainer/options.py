"""Command-line options that several commands share."""

import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import DeviceName, FinderName, LandmarkFinderName, PhotoFace
from trainer.configuration import ConfigError

SHIPPED = Path(str(files("service"))) / "bundles"
BUNDLE = SHIPPED / "embedder"
DETECTOR_BUNDLE = SHIPPED / "detector"
WORK = Path("runs/data")
MODEL_ID = r"[a-z0-9][a-z0-9._-]{2,63}"
CONFIGS = Path(os.path.relpath(SHIPPED.parents[1] / "configs"))
"""The configurations of the repository, relative to the current folder."""


def require_model_id(model_id: str) -> None:
    """Raises ConfigError if a model cannot have this name."""
    if re.fullmatch(MODEL_ID, model_id) is None:
        raise ConfigError(
            f"--model-id {model_id!r}: use 3 to 64 lower-case letters, digits, dots, dashes and underscores"
        )


Identities = Annotated[
    list[Path],
    typer.Option(help="Folder or zip archive of <identity>/<aligned crop>, written by `prepare`; repeatable."),
]
Photos = Annotated[
    list[Path],
    typer.Option(
        help="Folder or zip archive of <identity>/<photo>, CSV of photo and identity, Parquet, or WebDataset tar; "
        "repeatable."
    ),
]
SHIPPED_MODEL = "the shipped one"
Bundle = Annotated[Path, typer.Option(help="Embedder bundle.", show_default=SHIPPED_MODEL)]
DetectorBundle = Annotated[Path, typer.Option(help="Detector bundle.", show_default=SHIPPED_MODEL)]
FinderOption = Annotated[FinderName, typer.Option("--finder", help="Face detector.")]
LandmarksOption = Annotated[
    LandmarkFinderName,
    typer.Option("--landmarks", help="Landmark finder for landmark_channels; the service uses yolo."),
]
LandmarksFile = Annotated[Path | None, typer.Option("--landmarks-file", help="Model file of yunet, mediapipe or dlib.")]
MinScore = Annotated[
    float | None, typer.Option(min=0, max=1, help="Minimum score of a face. Unset: the detector's default.")
]
FaceOption = Annotated[PhotoFace, typer.Option("--face", help="Face to use of a photo with several; only rejects it.")]
ModelFile = Annotated[
    Path | None,
    typer.Option(help="Bundle of yolo (unset: the shipped one), or model file of yunet or mediapipe."),
]
Teachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        help="Embedder bundle, or ONNX embedder with (x - 127.5) / 128 as its input, to distil from; several are "
        "concatenated; repeatable.",
    ),
]
Provenance = Annotated[
    Path | None,
    typer.Option(
        help="YAML file with the origin and the terms of the pictures. Unset: own pictures, terms not stated. The "
        "terms of initial weights and teachers are those of their bundles."
    ),
]
Device = Annotated[DeviceName, typer.Option(help="Processor of the training.")]
Work = Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")]
Unpacked = Annotated[Path, typer.Option(help="Folder for extracted archives.")]
