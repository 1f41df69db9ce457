"""Which recipe for the same number of pictures: trains every one of configs/ablation.yaml and measures it.

Measured is the true accept rate at FMR 1e-3 among the people of the *calibration* part, who neither train nor choose a
checkpoint. A run that was finished is not run again.
"""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml

from trainer.archives import unpack
from trainer.embedder.augmentation import middle
from trainer.embedder.calibration import held_out_rows
from trainer.embedder.canvases import CanvasSet, load_canvases
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.scores import all_pairs
from trainer.embedder.split import Part, part_of
from trainer.embedder.training import train
from trainer.tables import table

FMR = 1e-3
BATCH = 256
SHIPPED = Path("configs/train.yaml")


def main(
    identities: Annotated[list[Path], typer.Option(help="Folder or zip of <identity>/<canvas>; repeatable.")],
    teacher: Annotated[Path, typer.Option(help="ONNX embedder to distil from.")],
    config: Annotated[Path, typer.Option(help="The recipes.")] = Path("configs/ablation.yaml"),
    output: Annotated[Path, typer.Option(help="Where runs and table go.")] = Path("runs/ablation"),
    work: Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")] = Path("runs/data"),
    nameless: Annotated[Path | None, typer.Option(help="Folder or zip of canvases of people without names.")] = None,
    nameless_folder: Annotated[str, typer.Option(help="The folder in it that may train.")] = "",
    measure: Annotated[
        list[Path] | None, typer.Option(help="Only measure these checkpoints of configs/train.yaml; repeatable.")
    ] = None,
) -> None:
    """Train and measure every recipe; the table is printed and kept in `table.md`.

    A recipe's `material` says who trains: `named` people, `nameless` ones, or `all`.
    """
    settings = yaml.safe_load(config.read_text())
    people = unpack(identities, work / "identities")
    named = load_canvases(people, None, work / "cache")
    for checkpoint in measure or []:
        rate = _true_accept_rate(checkpoint, EmbedderConfig.load(SHIPPED), named)
        typer.echo(f"{checkpoint}: TAR {rate:.4f} at FMR {FMR:g}")
    if measure:
        return
    everybody = named
    if nameless is not None:
        folder = unpack([nameless], work / "nameless") / nameless_folder
        everybody = load_canvases(people, folder, work / "cache")
    results: dict[str, list[dict[str, float]]] = {}
    for name, recipe in settings["recipes"].items():
        material = recipe.get("material", "named")
        if material != "named" and nameless is None:
            typer.echo(f"{name}: left out, since it needs --nameless", err=True)
            continue
        canvases = named if material == "named" else everybody
        for seed in recipe["seeds"]:
            run = _config({**settings["base"], **recipe.get("run", {})}, recipe["stages"], seed)
            run = _without_named(run, canvases) if material == "nameless" else run
            folder = output / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            results.setdefault(name, []).append(_run(run, canvases, teacher, work / "cache", folder))
            text = _table(results)
            (output / "table.md").write_text(text + "\n")
    typer.echo(text)


def _config(base: dict[str, Any], stages: list[dict[str, Any]], seed: int) -> EmbedderConfig:
    return EmbedderConfig.model_validate({**base, "stages": stages, "seed": seed * 100})


def _without_named(config: EmbedderConfig, canvases: CanvasSet) -> EmbedderConfig:
    """The same split with no named person left in its training part."""
    training = {name for name in canvases.identities if name and part_of(name, config.split) is Part.TRAIN}
    split = config.split.model_copy(update={"wrong_labels": tuple(sorted(training))})
    return config.model_copy(update={"split": split})


def _run(config: EmbedderConfig, canvases: CanvasSet, teacher: Path, cache: Path, folder: Path) -> dict[str, float]:
    result = folder / "result.json"
    if not result.exists():
        started = time.monotonic()
        best = train(config, canvases, teacher, cache, folder)
        minutes = (time.monotonic() - started) / 60
        result.write_text(json.dumps({"tar": _true_accept_rate(best, config, canvases), "minutes": minutes}))
    return dict(json.loads(result.read_text()))


def _true_accept_rate(checkpoint: Path, config: EmbedderConfig, canvases: CanvasSet) -> float:
    rows = held_out_rows(canvases, config.split, Part.CALIBRATION)
    encoder, _ = load_encoder(checkpoint)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            pictures: Any = np.asarray(canvases.pictures[rows[start : start + BATCH]])
            pixels = middle(torch.from_numpy(pictures), config.input_size)
            parts.append(torch.nn.functional.normalize(encoder(pixels)))
    pairs = all_pairs(torch.cat(parts).numpy(), [canvases.identities[row] for row in rows])
    return pairs.true_accept_rate(pairs.threshold_at(FMR))


def _table(results: dict[str, list[dict[str, float]]]) -> str:
    rows = []
    for name, runs in results.items():
        rates = np.array([run["tar"] for run in runs])
        spread = f" ± {rates.std(ddof=1):.4f}" if len(rates) > 1 else ""
        minutes = np.mean([run["minutes"] for run in runs])
        rows.append((name, len(rates), f"{rates.mean():.4f}{spread}", f"{minutes:.0f}"))
    return table(("recipe", "seeds", "TAR at FMR 1e-3", "minutes a run"), rows)


if __name__ == "__main__":
    typer.run(main)
