"""What a study found: a table, Optuna's plots, and the best configuration as a file to train with."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
import yaml

from trainer.tables import table
from trainer.tuning.config import TuneConfig
from trainer.tuning.study import finished

mpl.use("Agg")
from matplotlib import pyplot as plt

FEWEST_FOR_IMPORTANCES = 4


def write_report(study: optuna.Study, config: TuneConfig, folder: Path) -> None:
    """`report.md`, `best.yaml` and the plots."""
    best = finished(study)
    if best:
        chosen = config.configuration(best[0].params).model_dump(mode="json")
        (folder / "best.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    plots = _plots(study, folder) if len(best) > 1 else []
    head = (
        f"# {config.name}\n\n{len(study.trials)} trials, {len(best)} of them to the end; maximised on held-out people."
    )
    keys = list(config.search)
    rows = ((trial.number, f"{trial.value:.4f}", *(_shown(trial.params.get(key)) for key in keys)) for trial in best)
    images = [f"![{path.stem}]({path.name})" for path in plots]
    (folder / "report.md").write_text("\n\n".join([head, table(("trial", "value", *keys), rows), *images]) + "\n")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _plots(study: optuna.Study, folder: Path) -> list[Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        import optuna.visualization.matplotlib as drawing

        plots: dict[str, Callable[[optuna.Study], Any]] = {
            "history": drawing.plot_optimization_history,
            "intermediate": drawing.plot_intermediate_values,
            "slices": drawing.plot_slice,
            "parallel": drawing.plot_parallel_coordinate,
        }
        if len(finished(study)) >= FEWEST_FOR_IMPORTANCES:
            plots["importances"] = drawing.plot_param_importances
        return [_save(plot(study), folder / f"{name}.png") for name, plot in plots.items()]


def _save(axes: Any, path: Path) -> Path:
    np.ravel(axes)[0].figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close("all")
    return path
