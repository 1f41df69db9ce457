"""Searches for settings: resumes a study, prunes trials, writes the report."""

from pathlib import Path

import optuna
import pytest
import yaml

from trainer.configuration import ConfigError
from trainer.embedder import training
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.config import EmbedderConfig
from trainer.tuning.config import TuneConfig
from trainer.tuning.report import write_report
from trainer.tuning.study import completed, run_study

pytestmark = pytest.mark.filterwarnings("ignore")  # hints of Lightning, and of Optuna about experimental features

TUNE = {
    "name": "small",
    "trials": 2,
    "startup_trials": 1,
    "patience": 0,
    "search": {
        "stages.0.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "stages.0.losses.triplet.mining": {"choices": ["batch-hard", "semi-hard"]},
        "embedding_dim": {"low": 8, "high": 16, "step": 8},
    },
    "train": {
        "backbone": "shufflenet_v2_x0_5",
        "input_size": 64,
        "monitor": "rank_1",
        "compile": False,
        "precision": "32-true",
        "split": {"validation": 0.6, "calibration": 0.0},
        "stages": [
            {
                "name": "one",
                "epochs": 1,
                "batch_size": 4,
                "images_per_identity": 4,
                "learning_rate": 1.0,
                "losses": {"triplet": {"margin": 0.2}},
            }
        ],
    },
}


def test_interrupted_study_resumes(ten_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path / "cache")
    monkeypatch.setattr("trainer.embedder.data.MIN_IMPOSTOR_PAIRS", 10)
    trained: list[EmbedderConfig] = []

    def train(config: EmbedderConfig, folder: Path, callbacks: list) -> Path:
        trained.append(config)
        if len(trained) == 2:
            raise KeyboardInterrupt  # interrupts the second trial
        return training.train(config, crops, (), tmp_path / "cache", folder, callbacks=callbacks)

    without_pruning = {**TUNE, "patience": 9}
    with pytest.raises(KeyboardInterrupt):
        run_study(TuneConfig.model_validate(without_pruning), tmp_path / "study", train)
    killed = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    trial = killed.ask()  # still running, as after the kill of a process
    assert trial.suggest_float("stages.0.learning_rate", 1e-4, 1e-2, log=True) != 0.00123
    killed.enqueue_trial({"stages.0.learning_rate": 0.00123})
    running = killed.ask()
    assert running.suggest_float("stages.0.learning_rate", 1e-4, 1e-2, log=True) == 0.00123
    config = TuneConfig.model_validate({**without_pruning, "trials": 3})
    study = run_study(config, tmp_path / "study", train)
    assert len(completed(study)) == 3
    assert len(trained) == 4
    assert 0.00123 in [run.stages[0].learning_rate for run in trained[2:]]
    assert {run.embedding_dim for run in trained} <= {8, 16}
    assert len(completed(run_study(config, tmp_path / "study", train))) == 3  # no trial remains
    write_report(study, config, tmp_path / "study")
    best = EmbedderConfig.load(tmp_path / "study" / "best.yaml")
    assert best.stages[0].learning_rate == pytest.approx(study.best_params["stages.0.learning_rate"])
    report = (tmp_path / "study" / "report.md").read_text()
    for name in ("history", "slices", "parallel", "intermediate"):
        assert f"({name}.png)" in report
        assert (tmp_path / "study" / f"{name}.png").stat().st_size > 5_000


def test_trial_below_the_median_is_pruned(ten_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path / "cache")
    monkeypatch.setattr("trainer.embedder.data.MIN_IMPOSTOR_PAIRS", 10)
    monkeypatch.setattr("trainer.embedder.module.top_k_rate", lambda *_: 0.1)
    config = TuneConfig.model_validate({**TUNE, "trials": 2})
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="small", storage=storage, direction="maximize")
    study.set_user_attr("recipe", config.model_dump_json(include={"search", "train"}))
    spaces = {
        "stages.0.learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "stages.0.losses.triplet.mining": optuna.distributions.CategoricalDistribution(("batch-hard", "semi-hard")),
        "embedding_dim": optuna.distributions.IntDistribution(8, 16, step=8),
    }
    values = {"stages.0.learning_rate": 1e-3, "stages.0.losses.triplet.mining": "batch-hard", "embedding_dim": 8}
    study.add_trial(
        optuna.trial.create_trial(params=values, distributions=spaces, value=0.9, intermediate_values={0: 0.9})
    )

    def train(run: EmbedderConfig, folder: Path, callbacks: list) -> Path:
        return training.train(run, crops, (), tmp_path / "cache", folder, callbacks=callbacks)

    study = run_study(config, tmp_path, train)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]


def test_invalid_combination_of_values_is_pruned(tmp_path: Path) -> None:
    search = {"stages.0.batch_size": {"choices": [8, 6]}}  # 6 is no multiple of images_per_identity 4
    config = TuneConfig.model_validate({**TUNE, "trials": 12, "search": search})

    def train(run: EmbedderConfig, folder: Path, callbacks: list) -> Path:
        assert run.stages[0].batch_size == 8
        folder.mkdir()
        (folder / "finished.json").write_text('{"rank_1": 0.5}')
        return folder / "best.ckpt"

    states = [trial.state.name for trial in run_study(config, tmp_path, train).trials]
    assert len(states) == 12
    assert set(states) == {"COMPLETE", "PRUNED"}


def test_study_with_another_search_is_rejected(tmp_path: Path) -> None:
    def interrupted(*_: object) -> Path:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(TuneConfig.model_validate(TUNE), tmp_path, interrupted)
    train = {**TUNE["train"], "seed": 7}
    with pytest.raises(ConfigError, match="was started with other"):
        run_study(TuneConfig.model_validate({**TUNE, "train": train}), tmp_path, interrupted)


def test_tuning_without_validation_people_is_rejected(ten_people: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path / "cache")
    train = {**TUNE["train"], "split": {"validation": 0, "calibration": 0}}

    def run(config: EmbedderConfig, folder: Path, callbacks: list) -> Path:
        return training.train(config, crops, (), tmp_path / "cache", folder, callbacks=callbacks)

    with pytest.raises(ConfigError, match=r"raise train\.split\.validation"):
        run_study(TuneConfig.model_validate({**TUNE, "train": train}), tmp_path / "study", run)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"stages.3.learning_rate": {"low": 1, "high": 2}}, "train has no key"),
        ({"stages.first.learning_rate": {"low": 1, "high": 2}}, "train has no key"),
        ({"learning_rate": {"low": 1, "high": 2}}, "Extra inputs"),
        ({"seed": {"low": 3, "high": 2}}, "not below"),
        ({"seed": {"low": 0, "high": 2, "log": True}}, "needs low above 0"),
        ({"seed": {"choices": [1]}}, "at least 2"),
        ({}, "at least 1"),
    ],
)
def test_invalid_search_is_rejected(search: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TuneConfig.model_validate({**TUNE, "search": search})


def test_shipped_search_is_valid() -> None:
    config = TuneConfig.load(Path(__file__).parents[2] / "configs" / "tune.yaml")
    assert yaml.safe_load(yaml.safe_dump(config.train)) == config.train
    assert len(config.search) == 5
