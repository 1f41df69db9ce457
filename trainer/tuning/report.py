"""Writes the report of a study: a table, Optuna's plots, and the best training configuration."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml

from trainer.plot_style import save_figure
from trainer.tables import table
from trainer.tuning.config import TuneConfig
from trainer.tuning.study import completed

MIN_TRIALS_FOR_IMPORTANCES = 4


def write_report(study: optuna.Study, config: TuneConfig, folder: Path) -> None:
    """Writes `report.md`, `best.yaml` and the plots."""
    trials = completed(study)
    if trials:
        best = config.configuration(trials[0].params).model_dump(mode="json")
        (folder / "best.yaml").write_text(yaml.safe_dump(best, sort_keys=False))
    plots = _draw_plots(study, folder) if len(trials) > 1 else []
    head = (
        f"# {config.name}\n\n{len(study.trials)} trials, {len(trials)} of them completed. The value is measured on "
        "validation people; higher is better."
    )
    keys = list(config.search)
    rows = ((trial.number, f"{trial.value:.4f}", *(_shown(trial.params.get(key)) for key in keys)) for trial in trials)
    images = [f"![{path.stem}]({path.name})" for path in plots]
    (folder / "report.md").write_text("\n\n".join([head, table(("trial", "value", *keys), rows), *images]) + "\n")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _draw_plots(study: optuna.Study, folder: Path) -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        import optuna.visualization.matplotlib as drawing

        plots: dict[str, Callable[[optuna.Study], Any]] = {
            "history": drawing.plot_optimization_history,
            "intermediate": drawing.plot_intermediate_values,
            "slices": drawing.plot_slice,
            "parallel": drawing.plot_parallel_coordinate,
        }
        if len(completed(study)) >= MIN_TRIALS_FOR_IMPORTANCES:
            plots["importances"] = drawing.plot_param_importances
        return [save_figure(np.ravel(draw(study))[0].figure, folder / f"{name}.png") for name, draw in plots.items()]
