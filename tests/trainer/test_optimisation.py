"""Optimisers and schedules of the learning rate."""

from typing import Any

import pytest
import torch

from tests.trainer.small_run import run_config
from trainer.embedder.optimisation import build_optimizer, build_schedule

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def rates(stage: dict[str, Any], steps: int = 20) -> list[float]:
    config = run_config(stage={"learning_rate": 1.0, **stage}).stages[0]
    optimizer = build_optimizer(config, [torch.nn.Parameter(torch.zeros(1))])
    schedule = build_schedule(config, optimizer, steps)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_schedules_produce_their_rates() -> None:
    assert rates({"schedule": "constant", "warm_up": 0}) == [1.0] * 20
    warm_up = rates({"schedule": "constant", "warm_up": 0.5})
    assert warm_up[0] < 0.01
    assert warm_up[5] == pytest.approx(0.5, abs=0.01)
    assert warm_up[10:] == pytest.approx([1.0] * 10)
    cosine = rates({"schedule": "cosine", "warm_up": 0})
    assert cosine[10] == pytest.approx(0.5)
    assert cosine[-1] < 0.01
    steps = rates({"schedule": {"name": "multistep", "milestones": [0.25, 0.5], "factor": 0.5}, "warm_up": 0.1})
    assert [steps[row] for row in (2, 4, 5, 9, 10, 19)] == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    epochs = {"name": "multistep", "milestones": [1, 3], "factor": 0.5}
    steps = rates({"schedule": epochs, "warm_up": 0, "epochs": 4})
    assert [steps[row] for row in (4, 5, 14, 15)] == pytest.approx([1, 0.5, 0.5, 0.25])
    wave = rates({"schedule": {"name": "cosine", "t_max": 2}, "warm_up": 0, "epochs": 4})
    assert [wave[row] for row in (5, 10, 15)] == pytest.approx([0.5, 0, 0.5], abs=1e-6)
    cycle = rates({"schedule": "one-cycle", "warm_up": 0.5})
    assert max(cycle) == pytest.approx(max(cycle[8:11]))


def test_optimisers_have_their_settings() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    for optimizer_config, kind, settings in (
        ("adam", torch.optim.Adam, {"weight_decay": 0.05}),
        ({"name": "adamw", "betas": [0.8, 0.99]}, torch.optim.AdamW, {"betas": (0.8, 0.99)}),
        ({"name": "sgd", "momentum": 0.5, "nesterov": True}, torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
    ):
        optimizer = build_optimizer(run_config(stage={"optimizer": optimizer_config}).stages[0], [weight, frozen])
        assert type(optimizer) is kind
        (group,) = optimizer.param_groups
        assert {name: group[name] for name in settings} == settings
        assert len(group["params"]) == 1


@pytest.mark.parametrize(
    ("steps", "warm_up"), [(1, 0.1), (1, 1.0), (2, 0.5), (5, 0.2), (10, 0.1), (20, 0.05), (7, 0.0)]
)
def test_schedules_of_every_length_are_valid(steps: int, warm_up: float) -> None:
    for schedule in ("one-cycle", "cosine", "constant", "multistep"):
        values = rates({"schedule": schedule, "warm_up": warm_up}, steps)
        assert all(0 <= rate <= 1.0001 for rate in values)
        assert max(values) > 0.5 or schedule != "one-cycle"


def test_schedule_keeps_the_momentum() -> None:
    for optimizer, key in (
        ({"name": "sgd", "momentum": 0.5}, "momentum"),
        ({"name": "adamw", "betas": [0.5, 0.99]}, "betas"),
    ):
        stage = run_config(stage={"optimizer": optimizer, "schedule": "one-cycle"}).stages[0]
        built = build_optimizer(stage, [torch.nn.Parameter(torch.zeros(1))])
        build_schedule(stage, built, 20)
        assert built.param_groups[0][key] == (0.5 if key == "momentum" else (0.5, 0.99))
