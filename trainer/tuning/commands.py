"""`identity-trainer tune`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import DeviceName
from trainer.options import CONFIGS, WORK, Device, Identities, Teachers, Work


def tune(
    identities: Identities,
    config: Annotated[Path, typer.Option(help="YAML file with the search space and the training recipe.")] = CONFIGS
    / "tune.yaml",
    teacher: Teachers = None,
    initial: Annotated[Path | None, typer.Option(help="Initial weights of every trial.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for study, trials and report; the same command resumes.")] = Path(
        "runs/tune"
    ),
    device: Device = DeviceName.AUTO,
    work: Work = WORK,
) -> None:
    """Search for better training settings with Optuna; trials that are worse than most end early.

    The study is stored in `study.db`: the same command resumes it, and a higher `trials` in the YAML file extends it.
    `best.yaml` is the best training configuration.
    """
    from lightning.pytorch.callbacks import Callback

    from trainer.archives import unpack
    from trainer.embedder import training
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.config import EmbedderConfig
    from trainer.tuning.config import TuneConfig
    from trainer.tuning.report import write_report
    from trainer.tuning.study import completed, run_study

    settings = TuneConfig.load(config)
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")

    def train(run: EmbedderConfig, folder: Path, callbacks: list[Callback]) -> Path:
        return training.train(run, crops, teacher or (), work / "cache", folder, initial, device, callbacks=callbacks)

    study = run_study(settings, output, train)
    write_report(study, settings, output)
    best = completed(study)
    result = f"best: trial {best[0].number}, {best[0].value:.4f}" if best else "no trial was completed"
    typer.echo(f"{result}; {output / 'report.md'}")
