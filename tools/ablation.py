"""`python -m tools.ablation`: compares training recipes that process the same number of pictures.

Trains every recipe of configs/ablation.yaml and measures its true accept rate at FMR 1e-3 on the people of the
*calibration* part of the split, who neither train nor select a checkpoint. Finished runs are not repeated.
"""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml
from rich.progress import track

from trainer.archives import unpack
from trainer.configuration import choice
from trainer.embedder.aligned_crops import AlignedCrops, load_aligned_crops
from trainer.embedder.augmentation import centre_tensor
from trainer.embedder.calibration import rows_of_part
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.scores import all_pairs
from trainer.embedder.split import Part, part_of
from trainer.embedder.training import train
from trainer.tables import table

FMR = 1e-3
BATCH = 256
SHIPPED = Path("configs/train.yaml")
SEED_DISTANCE = 100
"""Runs of different seeds must not share the seeds of their stages, which are derived from the seed of the run."""


class Material(StrEnum):
    """Pictures that a recipe trains on."""

    LABELLED = "labelled"
    UNLABELLED = "unlabelled"
    ALL = "all"


def main(
    identities: Annotated[
        list[Path], typer.Option(help="Folder or zip archive of <identity>/<aligned crop>; repeatable.")
    ],
    teacher: Annotated[Path, typer.Option(help="ONNX embedder to distil from.")],
    config: Annotated[Path, typer.Option(help="YAML file with the recipes.")] = Path("configs/ablation.yaml"),
    output: Annotated[Path, typer.Option(help="Folder for the runs and table.md.")] = Path("runs/ablation"),
    work: Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")] = Path("runs/data"),
    unlabelled: Annotated[
        Path | None, typer.Option(help="Folder or zip archive of aligned crops of unknown people.")
    ] = None,
    unlabelled_folder: Annotated[str, typer.Option(help="Subfolder of --unlabelled to use.")] = "",
    measure: Annotated[
        list[Path] | None,
        typer.Option(help="Checkpoint of configs/train.yaml to measure instead of training; repeatable."),
    ] = None,
) -> None:
    """Train and measure every recipe, print the table and store it in table.md.

    `material` of a recipe is labelled, unlabelled or all; recipes with unlabelled pictures need --unlabelled.
    """
    people = unpack(identities, work / "identities")
    labelled = load_aligned_crops(people, None, work / "cache")
    if measure:
        for checkpoint in measure:
            rate = _true_accept_rate(checkpoint, EmbedderConfig.load(SHIPPED), labelled)
            typer.echo(f"{checkpoint}: TAR {rate:.4f} at FMR {FMR:g}")
        return
    everybody = None
    if unlabelled is not None:
        folder = unpack([unlabelled], work / "unlabelled") / unlabelled_folder
        everybody = load_aligned_crops(people, folder, work / "cache")
    _compare(yaml.safe_load(config.read_text()), labelled, everybody, teacher, work / "cache", output)


def _compare(
    settings: dict[str, Any],
    labelled: AlignedCrops,
    everybody: AlignedCrops | None,
    teacher: Path,
    cache: Path,
    output: Path,
) -> None:
    results: dict[str, list[dict[str, float]]] = {}
    for name, recipe in track(settings["recipes"].items(), description="recipes"):
        material = choice(Material, recipe.get("material", Material.LABELLED), "material")
        crops = labelled if material is Material.LABELLED else everybody
        if crops is None:
            typer.echo(f"{name}: skipped, because it needs --unlabelled", err=True)
            continue
        for seed in recipe["seeds"]:
            run = _config({**settings["base"], **recipe.get("run", {})}, recipe["stages"], seed)
            run = _without_labelled(run, crops) if material is Material.UNLABELLED else run
            folder = output / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            results.setdefault(name, []).append(_run(run, crops, teacher, cache, folder))
            (output / "table.md").write_text(_table(results) + "\n")
    typer.echo(_table(results))


def _config(base: dict[str, Any], stages: list[dict[str, Any]], seed: int) -> EmbedderConfig:
    return EmbedderConfig.model_validate({**base, "stages": stages, "seed": seed * SEED_DISTANCE})


def _without_labelled(config: EmbedderConfig, crops: AlignedCrops) -> EmbedderConfig:
    """Returns the configuration with the same split, but without labelled people in the training part."""
    training = {name for name in crops.identities if name and part_of(name, config.split) is Part.TRAIN}
    split = config.split.model_copy(update={"wrong_labels": tuple(sorted(training))})
    return config.model_copy(update={"split": split})


def _run(config: EmbedderConfig, crops: AlignedCrops, teacher: Path, cache: Path, folder: Path) -> dict[str, float]:
    """Trains and measures one run, or reads its result if it is finished: `tar`, 0 to 1, and `minutes`."""
    result = folder / "result.json"
    if not result.exists():
        started = time.monotonic()
        best = train(config, crops, [teacher], cache, folder)
        minutes = (time.monotonic() - started) / 60
        result.write_text(json.dumps({"tar": _true_accept_rate(best, config, crops), "minutes": minutes}))
    return dict(json.loads(result.read_text()))


def _true_accept_rate(checkpoint: Path, config: EmbedderConfig, crops: AlignedCrops) -> float:
    rows = rows_of_part(crops, config.split, Part.CALIBRATION)
    encoder, _ = load_encoder(checkpoint)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            pictures: Any = np.asarray(crops.pictures[rows[start : start + BATCH]])
            pixels = centre_tensor(torch.from_numpy(pictures), config.input_size)
            parts.append(torch.nn.functional.normalize(encoder(pixels)))
    pairs = all_pairs(torch.cat(parts).numpy(), [crops.identities[row] for row in rows])
    return pairs.true_accept_rate(pairs.threshold_at(FMR))


def _table(results: dict[str, list[dict[str, float]]]) -> str:
    rows = []
    for name, runs in results.items():
        rates = np.array([run["tar"] for run in runs])
        spread = f" ± {rates.std(ddof=1):.4f}" if len(rates) > 1 else ""
        minutes = np.mean([run["minutes"] for run in runs])
        rows.append((name, len(rates), f"{rates.mean():.4f}{spread}", f"{minutes:.0f}"))
    return table(("recipe", "seeds", "TAR at FMR 1e-3", "minutes per run"), rows)


if __name__ == "__main__":
    typer.run(main)
