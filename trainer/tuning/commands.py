"""`python -m trainer tune`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import WORK, Device, Identities, Teacher, Work


def tune(
    identities: Identities,
    config: Annotated[Path, typer.Option(help="YAML with the search space and the recipe.")] = Path(
        "configs/tune.yaml"
    ),
    teacher: Teacher = None,
    initial: Annotated[Path | None, typer.Option(help="Weights that every trial begins with.")] = None,
    output: Annotated[Path, typer.Option(help="Study, trials, report; the same command goes on.")] = Path("runs/tune"),
    device: Device = "auto",
    work: Work = WORK,
) -> None:
    """Search for better settings with Optuna; hopeless trials end early.

    The study lies in `study.db`: a search that was stopped goes on with the same command, and more `trials` in the YAML
    lengthen it. `best.yaml` is a configuration to train with.
    """
    from lightning.pytorch.callbacks import Callback

    from trainer.archives import unpack
    from trainer.embedder import training
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig
    from trainer.tuning.config import TuneConfig
    from trainer.tuning.report import write_report
    from trainer.tuning.study import finished, run_study

    settings = TuneConfig.load(config)
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")

    def train(run: EmbedderConfig, folder: Path, callbacks: list[Callback]) -> Path:
        return training.train(run, canvases, teacher, work / "cache", folder, initial, device, callbacks=callbacks)

    study = run_study(settings, output, train)
    write_report(study, settings, output)
    best = finished(study)
    said = f"best: trial {best[0].number}, {best[0].value:.4f}" if best else "no trial came to its end"
    typer.echo(f"{said}; {output / 'report.md'}")
