"""Options that several commands have, with the same words."""

from pathlib import Path
from typing import Annotated

import typer

BUNDLE = Path("service/bundles/embedder")
DETECTOR_BUNDLE = Path("service/bundles/detector")
WORK = Path("runs/data")

Identities = Annotated[list[Path], typer.Option(help="Folder or zip of <identity>/<canvas>; repeatable.")]
Photos = Annotated[list[Path], typer.Option(help="Folder or zip of <identity>/<photo>; repeatable.")]
Bundle = Annotated[Path, typer.Option(help="Embedder bundle: ours or yours.")]
DetectorBundle = Annotated[Path, typer.Option(help="Detector bundle.")]
Teacher = Annotated[Path | None, typer.Option(help="ONNX embedder, where the recipe distils.")]
TrainedBy = Annotated[Path, typer.Option(help="YAML that trained it, for the split of people.")]
Provenance = Annotated[Path, typer.Option(help="YAML: data, terms, initialised_from.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Work = Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")]
Unpacked = Annotated[Path, typer.Option(help="Where archives are unpacked.")]
