"""Executes a run from photos to a bundle and a report."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.choices import Training as Choice
from trainer.configuration import ConfigError
from trainer.datasets.photos import LabelledPhoto
from trainer.embedder.aligned_crops import AlignedCrops, load_aligned_crops
from trainer.embedder.alignment import Recipe
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.preparation import Preparation, prepare
from trainer.embedder.sources import assign_targets
from trainer.finders import Finder
from trainer.options import BUNDLE
from trainer.provenance import Stated
from trainer.run import steps
from trainer.run.comparison import compare
from trainer.run.plan import Plan, divided, plan
from trainer.run.report import describe_comparison, write_report
from trainer.run.result import Outcome, Result, Training

Announce = Callable[[str], None]
LARGEST_TYPICAL = 20


@dataclass(frozen=True)
class Request:
    """A run as the user requests it.

    Attributes:
        sources: files and folders that the photos come from; the bundle's provenance names them.
        provenance: origin and terms of the photos; None: the terms are not stated.
    """

    name: str
    sources: Sequence[Path]
    photos: Sequence[LabelledPhoto]
    folder: Path
    finder: Finder
    training: Choice
    provenance: Stated | None
    device: str

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def failures(self) -> Path:
        """The file that lists the photos without a face."""
        return self.folder / "crops" / "failures.csv"

    def plan(self, identities: Sequence[str]) -> Plan:
        """Plans the run for the identities of its pictures. Raises ConfigError."""
        return plan(Counter(identities), self.training, divided(self.photos))


def execute(request: Request, announce: Announce) -> tuple[Result, Path]:
    """Executes a run; the same call resumes an interrupted one.

    Args:
        announce: receives what the run does next.

    Returns:
        The result and the path of the report.

    Raises:
        ConfigError: No photo has a face, or the remaining people are too few.
    """
    first = request.plan([photo.identity for photo in request.photos])
    headings = _Headings(announce, 4 if first.config is None else 6)
    headings.next(f"align the faces of {first.photos:,} photos")
    prepared, crops = _prepare(request)
    announce(f"{prepared.written:,} faces; {len(prepared.failures):,} photos without one: {request.failures}")
    final = request.plan(crops.identities)
    if (final.config is None) != (first.config is None):
        announce(f"Photos without a face change the plan: {final.reason}.")
    headings.next("search for label errors")
    problems = steps.find_problems(crops, sorted(name for name, count in final.counts.items() if count == 1))
    announce(
        f"{len(problems.errors):,} photos may show another person, {len(problems.duplicates):,} pairs of people may be "
        "one person: see the report"
    )
    if known := steps.trained_before(crops):
        announce(
            f"{len(known):,} people have the names of people who trained the shipped model ({', '.join(known[:5])}"
            f"{', …' if len(known) > 5 else ''}); they are not measured. Rename their folders if they are others."
        )
    templates = min(sorted(final.counts.values())[len(final.counts) // 2], LARGEST_TYPICAL)
    if final.config is None:
        headings.next("calibrate the shipped model")
        outcome = Outcome(steps.calibrated_shipped(crops, request.folder, templates))
    else:
        outcome = _train(request, final, final.config, crops, templates, headings)
    steps.choose(outcome.chosen, request.bundle)
    headings.next("write the report")
    result = Result(request.name, final, prepared, crops, problems, outcome, templates, request.bundle)
    return result, write_report(result, request.folder / "report")


def _prepare(request: Request) -> tuple[Preparation, AlignedCrops]:
    folder = request.folder / "crops"
    # The plan holds out the people of `val/`; the crops need no folders for it.
    photos = [replace(photo, part=None) for photo in request.photos]
    sources = assign_targets(photos, folder)
    prepared = prepare(sources, folder, request.finder, Recipe(), request.finder.key)
    _remove_others({source.target for source in sources}, folder)
    if not prepared.written:
        reasons = Counter(reason for _, reason in prepared.failures).most_common(3)
        raise ConfigError(f"no photo has a face: {', '.join(f'{reason} ({count})' for reason, count in reasons)}")
    return prepared, load_aligned_crops(folder, None, request.folder / "cache")


def _remove_others(targets: set[Path], folder: Path) -> None:
    """Removes the crops of photos that the user has deleted or moved since an earlier run."""
    for path in folder.glob("*/*.webp"):
        if path not in targets:
            path.unlink()


def _train(
    request: Request, planned: Plan, config: EmbedderConfig, crops: AlignedCrops, templates: int, headings: "_Headings"
) -> Outcome:
    """Trains, compares with the shipped model, and calibrates both."""
    headings.next("train, starting from the shipped model")
    folder, best = steps.train(config, crops, request.folder, request.device)
    headings.next("compare with the shipped model on the same held-out people")
    terms = steps.provenance(planned, request.sources, request.provenance)
    # Other photos give other weights, and stored embeddings carry the model id.
    trained = steps.export_trained(best, request.folder, f"{request.name}-{folder.name[:6]}", terms)
    after = steps.measure(trained, crops, config.split)
    comparison = compare(steps.measure(BUNDLE, crops, config.split).sample, after.sample)
    headings.announce(describe_comparison(comparison))
    headings.next("calibrate")
    training = Training(folder, comparison, steps.calibrated_trained(trained, after))
    shipped = steps.calibrated_shipped(crops, request.folder, templates)
    return Outcome(shipped, training, request.training is Choice.ALWAYS)


@dataclass
class _Headings:
    """Announces each step with its number."""

    announce: Announce
    total: int
    number: int = 0

    def next(self, text: str) -> None:
        self.number += 1
        self.announce(f"\nStep {self.number} of {max(self.total, self.number)}: {text}")
