"""`python -m trainer train`"""

from pathlib import Path
from typing import Annotated

import typer


def train(
    identities: Annotated[
        list[Path], typer.Option(help="Folder or zip of <identity>/<picture> with 160 px canvases; repeatable.")
    ],
    nameless: Annotated[
        Path | None, typer.Option(help="Folder or zip of canvases of people without names, for distillation.")
    ] = None,
    nameless_folder: Annotated[str, typer.Option(help="Only this folder of --nameless.")] = ".",
    teacher: Annotated[Path | None, typer.Option(help="ONNX embedder to distil from.")] = None,
    config: Annotated[Path, typer.Option(help="YAML with the run's settings.")] = Path("configs/train.yaml"),
    initial: Annotated[Path | None, typer.Option(help="Checkpoint to start the first stage from.")] = None,
    output: Annotated[Path, typer.Option(help="Run folder; the same command resumes it.")] = Path("runs/embedder"),
    work: Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")] = Path("runs/data"),
) -> None:
    """Train the face embedder stage by stage; batch-hard triplet mining is the last."""
    from trainer.archives import unpack
    from trainer.embedder import training
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig

    named = unpack(identities, work / "identities")
    others = unpack([nameless], work / "nameless") / nameless_folder if nameless else None
    canvases = load_canvases(named, others, work / "cache")
    best = training.train(EmbedderConfig.load(config), canvases, teacher, work / "cache", output, initial)
    typer.echo(f"best checkpoint: {best}")
