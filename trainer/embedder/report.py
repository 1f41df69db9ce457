"""Writes calibration and evaluation as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.inference.calibration import Calibration, IdentificationPoint, Interval
from service.inference.manifest import EmbedderManifest
from trainer.embedder.conditions import MIN_QUALITY, Condition
from trainer.embedder.discard import FMR, Discard
from trainer.embedder.evaluation import EngineFigures, TemplateFigures
from trainer.embedder.groups import Group
from trainer.embedder.identification import ClosedSet
from trainer.tables import table


@dataclass(frozen=True)
class HeldOutFigures:
    """Figures of the people whom the split holds out; empty if the training data was not named."""

    closed_set: ClosedSet | None = None
    discard: Sequence[Discard] = field(default_factory=list)
    templates: Sequence[TemplateFigures] = field(default_factory=list)
    conditions: Sequence[Condition] = field(default_factory=list)


def calibration_tables(calibration: Calibration) -> str:
    """Returns the thresholds with their errors, and the errors of searches at these thresholds."""
    points = table(
        ("FMR", "95 % interval", "threshold", "FNMR", "95 % interval"),
        (
            (f"{p.fmr:g}", _interval(p.fmr_interval), f"{p.threshold:.4f}", _rate(p.fnmr), _interval(p.fnmr_interval))
            for p in calibration.points
        ),
    )
    data = (
        f"{calibration.impostor_pairs:,} impostor and {calibration.genuine_pairs:,} genuine pairs of "
        f"{calibration.data}; precision {calibration.precision}."
    )
    if not calibration.identification:
        return f"{data}\n\n{points}"
    return f"{data}\n\n{points}\n\n{_searches(calibration.identification)}"


def evaluation_report(
    manifest: EmbedderManifest, figures: EngineFigures, data: str, held_out: HeldOutFigures, groups: Sequence[Group]
) -> str:
    """Returns the whole report; sections without data are omitted."""
    parts = [
        f"# Evaluation of {manifest.model_id}",
        f"Embeddings of {manifest.embedding_dim} numbers; graph SHA-256 `{manifest.files[manifest.graph][:16]}…`. "
        f"Terms: {manifest.provenance.terms}.",
        _verification(figures, data),
        _thresholds(manifest, figures),
        _identification(figures, held_out.closed_set),
        _templates(held_out.templates) if held_out.templates else "",
        _discard(held_out.discard) if held_out.discard else "",
        _conditions(held_out.conditions) if held_out.conditions else "",
        _groups(groups) if groups else "",
        "## Hardest pairs\n\nPairs of one person with the lowest scores:\n\n![genuine](hardest-genuine.png)\n\n"
        "Pairs of two people with the highest scores:\n\n![impostor](hardest-impostor.png)",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _verification(figures: EngineFigures, data: str) -> str:
    rows = [
        (f"{rate:g}", f"{tar:.4f}", _accept_interval(figures.fnmr_intervals[rate]))
        for rate, tar in figures.tar_at_fmr.items()
    ]
    return "\n\n".join(
        [
            "## Verification",
            f"The whole engine (decode, detect, align, embed) processed {figures.photos:,} photos of {data} and "
            f"detected a face in {figures.faces_detected:,}. Accuracy on {figures.pairs:,} listed pairs: "
            f"**{figures.accuracy:.4f} ± {figures.accuracy_std:.4f}** (10-fold). "
            f"All pairs of photos: {len(figures.cross.genuine):,} genuine, {len(figures.cross.impostor):,} impostor; "
            f"area under the ROC curve {figures.cross.area_under_roc:.5f}.",
            table(("false match rate", "true accept rate", "95 % interval"), rows),
            "![ROC, DET and scores](verification.png)",
        ]
    )


def _accept_interval(missed: Interval) -> str:
    return f"{1 - missed[1]:.4f} to {1 - missed[0]:.4f}"


def _thresholds(manifest: EmbedderManifest, figures: EngineFigures) -> str:
    if not figures.measured_fmr:
        return ""
    measured = figures.measured_fmr.items()
    rows = [(f"{requested:g}", f"{rate:.3g}", f"{rate / requested:.2f}") for requested, rate in measured]
    source = "" if manifest.calibration is None else f" They were calibrated on {manifest.calibration.data}."
    return (
        f"## Calibrated thresholds\n\nFalse match rates at the bundle's thresholds on these photos, whose people took "
        f"no part in the calibration.{source}\n\n" + table(("calibrated FMR", "measured FMR", "ratio"), rows)
    )


def _identification(figures: EngineFigures, closed_set: ClosedSet | None) -> str:
    rows = [(f"{k}", f"{(figures.ranks < k).mean():.4f}") for k in (1, 5, 10, 20)]
    parts = [
        "## Identification",
        f"Closed set: one photo of each of {figures.people:,} people enrolled, {len(figures.ranks):,} searches.",
        table(("rank", "identification rate"), rows),
        "![CMC](cmc.png)",
    ]
    if closed_set is not None:
        parts.append(
            f"With centroids: half of each person's crops enrolled and half searched; {closed_set.people} people with "
            f"many pictures, most of them training people; {closed_set.probes:,} searches, "
            f"**{closed_set.rank_1:.4f}** at rank 1."
        )
    if figures.searches:
        parts += ["Open set, at the thresholds for each FPIR:", _searches(figures.searches)]
    return "\n\n".join(parts)


def _searches(searches: Sequence[IdentificationPoint]) -> str:
    rows = (
        (
            f"{p.gallery_size:,}", f"{p.requested_fpir:g}", f"{p.threshold:.4f}", f"{p.fpir:.4f}",
            _interval(p.fpir_interval), f"{p.fnir:.4f}",
        )
        for p in searches
    )  # fmt: skip
    return table(("people enrolled", "requested FPIR", "threshold", "measured FPIR", "95 % interval", "FNIR"), rows)


def _templates(templates: Sequence[TemplateFigures]) -> str:
    rows = [
        (f"{t.templates}", f"{t.people}", f"{t.requested:g}", f"{t.fmr_plain / t.requested:.2f}",
         f"{t.fmr / t.requested:.2f}", f"{t.fnmr:.4f}")
        for t in templates
    ]  # fmt: skip
    head = ("templates", "people", "requested FMR", "ratio, threshold for 1", "ratio, threshold for n", "FNMR")
    return (
        "## Several templates of one person\n\nThe nearest of n templates decides. At the threshold for one comparison "
        "the false match rate against a person increases with n. At the threshold for n comparisons, which the service "
        f"uses, it does not.\n\n{table(head, rows)}"
    )


def _discard(curve: Sequence[Discard]) -> str:
    first = curve[0].fnmr
    rows = [(f"{p.fraction:.0%}", f"{p.fnmr:.4f}", f"{p.fnmr / first - 1:+.0%}" if first else "") for p in curve]
    return (
        f"## Quality and errors\n\nFNMR at FMR {FMR:g} on held-out people when the pictures of lowest quality are "
        "discarded.\n\n" + table(("discarded", "FNMR", "change"), rows) + "\n\n![error versus discard](discard.png)"
    )


def _conditions(conditions: Sequence[Condition]) -> str:
    rows = [
        (
            item.name,
            item.pictures,
            f"{item.fnmr:.3f}",
            f"{item.fmr:.2g}",
            f"{item.quality:.2f}",
            f"{item.refused:.3f}",
            f"{item.fnmr_of_accepted:.3f}",
        )
        for item in conditions
    ]
    head = ("condition", "pictures", "FNMR", "FMR", "median quality", "refused by enrolment", "FNMR of the others")
    return (
        "## Difficult conditions\n\nAltered pictures of held-out people are compared with the unaltered ones, at the "
        f"threshold for FMR {FMR:g}. Enrolment refuses faces of a quality below {MIN_QUALITY:g}.\n\n"
        + table(head, rows)
    )


def _groups(groups: Sequence[Group]) -> str:
    rates = sorted({rate for group in groups for rate in group.fmr}, reverse=True)
    before = sorted({rate for group in groups for rate in group.uncorrected_fmr}, reverse=True)
    rows = [
        (
            f"{group.attribute}: {group.value}",
            group.people,
            f"{1 - group.detection_rate:.4f}",
            "" if group.quality is None else f"{group.quality:.2f}",
            *(f"{group.fmr[rate] / rate:.2f}" for rate in rates),
            *(f"{group.uncorrected_fmr[rate] / rate:.1f}" for rate in before),
        )
        for group in groups
    ]
    columns = [f"at FMR {rate:g}" for rate in rates] + [f"without the cohort at {rate:g}" for rate in before]
    head = ("group", "pictures", "no face detected", "median quality", *columns)
    return (
        "## By group\n\nFalse match rates among people of one group, as multiples of the rate that the threshold is "
        "calibrated for. The thresholds are the same for all groups. FairFace has no identities: every picture counts "
        "as another person, and some people appear twice. Its tight crops end in repeated borders and resemble each "
        "other; a model without a cohort has higher rates on them than on photos.\n\n"
        + table(head, rows)
        + ("\n\n![by group](groups.png)" if rates else "")
    )


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:.4f}"


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"
