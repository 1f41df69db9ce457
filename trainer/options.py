"""Command-line options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

BUNDLE = Path("service/bundles/embedder")
DETECTOR_BUNDLE = Path("service/bundles/detector")
WORK = Path("runs/data")

Identities = Annotated[
    list[Path],
    typer.Option(help="Folder or zip archive of <identity>/<aligned crop>, written by `prepare`; repeatable."),
]
Photos = Annotated[list[Path], typer.Option(help="Folder or zip archive of <identity>/<photo>; repeatable.")]
Bundle = Annotated[Path, typer.Option(help="Embedder bundle.")]
DetectorBundle = Annotated[Path, typer.Option(help="Detector bundle.")]
Teacher = Annotated[
    Path | None, typer.Option(help="ONNX embedder; required if the configuration distils from a teacher.")
]
TrainedBy = Annotated[
    Path, typer.Option(help="YAML file that trained the embedder; its `split` says which identities are held out.")
]
Provenance = Annotated[Path, typer.Option(help="YAML file with data, terms and initialised_from.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Work = Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")]
Unpacked = Annotated[Path, typer.Option(help="Folder for extracted archives.")]
