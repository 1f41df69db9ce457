"""Everything that a run has determined."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.calibration import Sample
from trainer.embedder.preparation import Preparation
from trainer.explore.label_errors import DuplicateIdentity, SuspectedError
from trainer.run.calibrating import ChosenCalibration
from trainer.run.comparison import Comparison
from trainer.run.decisions import counted, default_setting, largest_templates
from trainer.run.plan import Plan

KEPT = (
    "The shipped model is used with its own calibration. Its rates hold on your people down to an FMR of {lowest:g}; "
    "lower rates were measured on other people only."
)
CALIBRATED = "The shipped model is used with a calibration that was measured on your people."
TRAINED = "The trained model is used. It was calibrated on people who took no part in the training."


@dataclass(frozen=True)
class DataProblems:
    """Problems of the data.

    Attributes:
        single: people with one photo, who show no genuine pair.
        errors: pictures that are more similar to another person than to their own.
        duplicates: pairs of people who may be one person.
    """

    single: Sequence[str]
    errors: Sequence[SuspectedError]
    duplicates: Sequence[DuplicateIdentity]


@dataclass(frozen=True)
class Measured:
    """Held-out pictures, embedded by one model. `rows`: their rows in the aligned crops."""

    sample: Sample
    rows: Sequence[int]


@dataclass(frozen=True)
class Candidate:
    """A calibrated model. `measured`: the pictures that calibrated it."""

    bundle: Path
    measured: Measured
    calibrated: ChosenCalibration

    @property
    def largest_templates(self) -> int:
        return largest_templates(self.calibrated.calibration)


@dataclass(frozen=True)
class Training:
    """A finished training. `folder`: its checkpoints and logs."""

    folder: Path
    comparison: Comparison
    candidate: Candidate


@dataclass(frozen=True)
class Outcome:
    """The models of a run, and the chosen one.

    Attributes:
        training: None if nothing was trained.
        force: choose the trained model in any case.
    """

    shipped: Candidate
    training: Training | None = None
    force: bool = False

    @property
    def chooses_trained(self) -> bool:
        """True if training helped and the calibration reaches the service's default rate."""
        training = self.training
        if training is None:
            return False
        return self.force or (training.comparison.helped and training.candidate.largest_templates > 0)

    @property
    def chosen(self) -> Candidate:
        return self.training.candidate if self.training is not None and self.chooses_trained else self.shipped

    @property
    def other(self) -> Candidate | None:
        """The model that was not chosen; None if nothing was trained."""
        if self.training is None:
            return None
        return self.shipped if self.chooses_trained else self.training.candidate

    @property
    def summary(self) -> str:
        if self.chooses_trained:
            return TRAINED
        if self.shipped.calibrated.own:
            return CALIBRATED
        return KEPT.format(lowest=min(rate.requested for rate in self.shipped.calibrated.checked))

    @property
    def alternative(self) -> str:
        """Describes the other model; "" if there is none."""
        if self.other is None:
            return ""
        kind = "shipped" if self.chooses_trained else "trained"
        people = self.other.calibrated.calibration.people
        most = self.other.largest_templates
        able = f"up to {counted(most)}" if most else "no templates"
        return (
            f"The {kind} model, calibrated on {people} people, is in {self.other.bundle}; at the default rate it "
            f"decides about identities with {able}."
        )


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        plan: of the people whose photos have a face.
        templates: typical number of photos of a person.
        bundle: folder of the chosen model.
    """

    name: str
    plan: Plan
    preparation: Preparation
    crops: AlignedCrops
    problems: DataProblems
    outcome: Outcome
    templates: int
    bundle: Path

    @property
    def serve(self) -> str:
        """The command that serves the chosen model, with a default rate that its calibration covers."""
        setting = default_setting(self.outcome.chosen.calibrated.calibration, self.templates)
        variables = [setting, f"REGISTRY_EMBEDDER__BUNDLE={self.bundle}"]
        return " ".join([*filter(None, variables), "identity-registry serve"])
