"""Runs an Optuna study over training runs; the study is stored in a file and can be resumed."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import lightning
import optuna
from lightning.pytorch.callbacks import Callback
from optuna.trial import FrozenTrial, Trial, TrialState

from trainer.configuration import ConfigError
from trainer.embedder.config import EmbedderConfig
from trainer.tuning.config import ChoicesConfig, RangeConfig, TuneConfig, Value

Train = Callable[[EmbedderConfig, Path, list[Callback]], Path]
"""Trains into a folder and returns the best checkpoint."""
RECIPE = "recipe"
logger = logging.getLogger(__name__)


class Pruning(Callback):
    """Reports every validation to the study, and ends a trial that is worse than most were at that point."""

    def __init__(self, trial: Trial, monitor: str) -> None:
        self._trial, self._monitor, self._step = trial, monitor, 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        value = trainer.callback_metrics.get(self._monitor)
        if value is None:
            return
        self._trial.report(float(value), self._step)
        self._step += 1
        if self._trial.should_prune():
            raise optuna.TrialPruned


def run_study(config: TuneConfig, folder: Path, train: Train) -> optuna.Study:
    """Runs trials until `config.trials` are finished, including those of earlier calls.

    Raises:
        ConfigError: There are no validation people, or the folder contains another study.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the progress bar reports the trials
    study = optuna.create_study(
        study_name=config.name,
        storage=f"sqlite:///{(folder / 'study.db').resolve()}",
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=config.startup_trials, n_warmup_steps=config.patience),
    )
    # In a resumed study, a sampler with the same seed would repeat the values of earlier trials.
    study.sampler = optuna.samplers.TPESampler(
        seed=config.seed + len(study.trials), n_startup_trials=config.startup_trials
    )
    _require_same_study(study, config)
    _repeat_interrupted_trials(study)
    remaining = config.trials - sum(
        trial.state.is_finished() and trial.state is not TrialState.FAIL for trial in study.trials
    )
    if remaining > 0:
        study.optimize(
            lambda trial: _objective(trial, config, folder, train), n_trials=remaining, show_progress_bar=True
        )
    return study


def _require_same_study(study: optuna.Study, config: TuneConfig) -> None:
    recipe = config.model_dump_json(include={"search", "train"})
    if study.user_attrs.setdefault(RECIPE, recipe) != recipe:
        raise ConfigError(
            f"the study {study.study_name!r} was started with other `search` or `train` settings; name another folder "
            "with --output, or change `name`"
        )
    study.set_user_attr(RECIPE, recipe)


def _repeat_interrupted_trials(study: optuna.Study) -> None:
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.enqueue_trial(trial.params)
        study.tell(trial.number, state=TrialState.FAIL)


def _objective(trial: Trial, config: TuneConfig, folder: Path, train: Train) -> float:
    values = {key: _suggest(trial, key, space) for key, space in config.search.items()}
    try:
        run = config.configuration(values)
    except ValueError as error:  # this combination is invalid; others may be valid
        logger.warning("trial %s is skipped: %s", trial.number, error)
        raise optuna.TrialPruned from None
    best = train(run, folder / f"trial-{trial.number:03}", [Pruning(trial, run.monitor)])
    value = json.loads((best.parent / "finished.json").read_text())[run.monitor]
    if value is None:
        raise ConfigError("tuning needs validation people; raise train.split.validation")
    return float(value)


def _suggest(trial: Trial, key: str, space: RangeConfig | ChoicesConfig) -> Value:
    if isinstance(space, ChoicesConfig):
        return cast("Value", trial.suggest_categorical(key, space.choices))
    options: dict[str, Any] = {"log": space.log}
    if space.step is not None:
        options["step"] = space.step
    suggest = trial.suggest_int if space.is_integer else trial.suggest_float
    return suggest(key, space.low, space.high, **options)  # type: ignore[arg-type]


def completed(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials that ran to their end, sorted by value, highest first."""
    return sorted(study.get_trials(states=(TrialState.COMPLETE,)), key=lambda trial: -(trial.value or 0.0))
