"""A search for settings: resumed, pruned, reported."""

from pathlib import Path

import optuna
import pytest
import yaml

from trainer.configuration import ConfigError
from trainer.embedder import training
from trainer.embedder.canvases import load_canvases
from trainer.embedder.config import EmbedderConfig
from trainer.tuning.config import TuneConfig
from trainer.tuning.report import write_report
from trainer.tuning.study import finished, run_study

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints, and Optuna's on what is experimental

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


def test_a_study_goes_on_where_it_was(ten_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canvases = load_canvases(ten_people, None, tmp_path / "cache")
    monkeypatch.setattr("trainer.embedder.data.FEWEST_IMPOSTOR_PAIRS", 10)
    trained: list[EmbedderConfig] = []

    def train(config: EmbedderConfig, folder: Path, callbacks: list) -> Path:
        trained.append(config)
        if len(trained) == 2:
            raise KeyboardInterrupt  # the second trial is cut off
        return training.train(config, canvases, None, tmp_path / "cache", folder, callbacks=callbacks)

    background = {**TUNE, "patience": 9}
    with pytest.raises(KeyboardInterrupt):
        run_study(TuneConfig.model_validate(background), tmp_path / "study", train)
    killed = optuna.load_study(study_name="small", storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    trial = killed.ask()  # as a process that was killed leaves it: running
    assert trial.suggest_float("stages.0.learning_rate", 1e-4, 1e-2, log=True) != 0.00123
    killed.enqueue_trial({"stages.0.learning_rate": 0.00123})
    running = killed.ask()
    assert running.suggest_float("stages.0.learning_rate", 1e-4, 1e-2, log=True) == 0.00123
    config = TuneConfig.model_validate({**patient, "trials": 3})
    study = run_study(config, tmp_path / "study", train)
    assert len(finished(study)) == 3
    assert len(trained) == 4
    assert 0.00123 in [run.stages[0].learning_rate for run in trained[2:]]
    assert {run.embedding_dim for run in trained} <= {8, 16}
    assert len(finished(run_study(config, tmp_path / "study", train))) == 3  # nothing is left to do
    write_report(study, config, tmp_path / "study")
    best = EmbedderConfig.load(tmp_path / "study" / "best.yaml")
    assert best.stages[0].learning_rate == pytest.approx(study.best_params["stages.0.learning_rate"])
    report = (tmp_path / "study" / "report.md").read_text()
    for name in ("history", "slices", "parallel", "intermediate"):
        assert f"({name}.png)" in report
        assert (tmp_path / "study" / f"{name}.png").stat().st_size > 5_000


def test_a_hopeless_trial_ends_early(ten_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canvases = load_canvases(ten_people, None, tmp_path / "cache")
    monkeypatch.setattr("trainer.embedder.data.FEWEST_IMPOSTOR_PAIRS", 10)
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
        return training.train(run, canvases, None, tmp_path / "cache", folder, callbacks=callbacks)

    study = run_study(config, tmp_path, train)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED"]


def test_values_that_do_not_go_together_cost_one_trial(tmp_path: Path) -> None:
    search = {"stages.0.batch_size": {"choices": [8, 6]}}  # of which 6 are no multiple of four pictures a person
    config = TuneConfig.model_validate({**TUNE, "trials": 12, "search": search})

    def train(run: EmbedderConfig, folder: Path, callbacks: list) -> Path:
        assert run.stages[0].batch_size == 8
        folder.mkdir()
        (folder / "finished.json").write_text('{"rank_1": 0.5}')
        return folder / "best.ckpt"

    states = [trial.state.name for trial in run_study(config, tmp_path, train).trials]
    assert len(states) == 12
    assert set(states) == {"COMPLETE", "PRUNED"}


def test_a_study_of_another_search_is_not_gone_on_with(tmp_path: Path) -> None:
    def never(*_: object) -> Path:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(TuneConfig.model_validate(TUNE), tmp_path, never)
    train = {**TUNE["train"], "seed": 7}
    with pytest.raises(ConfigError, match="searched otherwise before"):
        run_study(TuneConfig.model_validate({**TUNE, "train": train}), tmp_path, never)


def test_nobody_to_choose_by_is_told(ten_people: Path, tmp_path: Path) -> None:
    canvases = load_canvases(ten_people, None, tmp_path / "cache")
    train = {**TUNE["train"], "split": {"validation": 0, "calibration": 0}}

    def run(config: EmbedderConfig, folder: Path, callbacks: list) -> Path:
        return training.train(config, canvases, None, tmp_path / "cache", folder, callbacks=callbacks)

    with pytest.raises(ConfigError, match=r"raise train\.split\.validation"):
        run_study(TuneConfig.model_validate({**TUNE, "train": train}), tmp_path / "study", run)


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"stages.3.learning_rate": {"low": 1, "high": 2}}, "leads nowhere"),
        ({"stages.first.learning_rate": {"low": 1, "high": 2}}, "leads nowhere"),
        ({"learning_rate": {"low": 1, "high": 2}}, "Extra inputs"),
        ({"seed": {"low": 3, "high": 2}}, "not below"),
        ({"seed": {"low": 0, "high": 2, "log": True}}, "begins above 0"),
        ({"seed": {"choices": [1]}}, "at least 2"),
        ({}, "at least 1"),
    ],
)
def test_a_search_that_can_not_be_is_told(search: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TuneConfig.model_validate({**TUNE, "search": search})


def test_the_shipped_search_is_one() -> None:
    config = TuneConfig.load(Path(__file__).parents[2] / "configs" / "tune.yaml")
    assert yaml.safe_load(yaml.safe_dump(config.train)) == config.train
    assert len(config.search) == 5
