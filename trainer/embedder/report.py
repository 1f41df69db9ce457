"""The evaluation as Markdown, one table for each question."""

from collections.abc import Sequence

from service.inference.bundle import Calibration, EmbedderManifest, IdentificationPoint, Interval
from trainer.embedder.discard import FMR, Discard
from trainer.embedder.evaluation import EngineFigures, TemplateFigures
from trainer.embedder.groups import Group
from trainer.embedder.identification import ClosedSet
from trainer.tables import table


def calibration_tables(calibration: Calibration) -> str:
    """The thresholds with their errors, and what searches do at them."""
    points = table(
        ("FMR", "95 % interval", "threshold", "FNMR", "95 % interval"),
        (
            (f"{p.fmr:g}", _interval(p.fmr_interval), f"{p.threshold:.4f}", f"{p.fnmr:.4f}", _interval(p.fnmr_interval))
            for p in calibration.points
        ),
    )
    words = (
        f"{calibration.impostor_pairs:,} impostor and {calibration.genuine_pairs:,} genuine pairs of "
        f"{calibration.data}; precision {calibration.precision}."
    )
    if not calibration.identification:
        return f"{words}\n\n{points}"
    return f"{words}\n\n{points}\n\n{_searches(calibration.identification)}"


def evaluation_report(
    manifest: EmbedderManifest,
    figures: EngineFigures,
    data: str,
    closed_set: ClosedSet | None,
    discard: Sequence[Discard],
    templates: Sequence[TemplateFigures],
    groups: Sequence[Group],
) -> str:
    """The whole report; sections without data are left out."""
    parts = [
        f"# Evaluation of {manifest.model_id}",
        f"Embeddings of {manifest.embedding_dim} numbers; graph SHA-256 `{manifest.files[manifest.graph][:16]}…`. "
        f"Terms: {manifest.provenance.terms}.",
        _verification(figures, data),
        _replay(manifest, figures),
        _identification(figures, closed_set),
    ]
    if templates:
        parts.append(_templates(templates))
    if discard:
        parts.append(_discard(discard))
    if groups:
        parts.append(_groups(groups))
    parts.append(
        "## Hardest pairs\n\nThe same person, lowest scores:\n\n![genuine](hardest-genuine.png)\n\n"
        "Different people, highest scores:\n\n![impostor](hardest-impostor.png)"
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def _verification(figures: EngineFigures, data: str) -> str:
    rows = [(f"{rate:g}", f"{tar:.4f}") for rate, tar in figures.tar_at_fmr.items()]
    return "\n\n".join(
        [
            "## Verification",
            f"{figures.photos:,} photos of {data} through the whole engine: decode, find the face, align, embed. A "
            f"face was found in {figures.faces_found:,}. Accuracy on {figures.pairs:,} pairs: "
            f"**{figures.accuracy:.4f} ± {figures.accuracy_std:.4f}** (10-fold). "
            f"All cross pairs: {len(figures.cross.genuine):,} genuine, "
            f"{len(figures.cross.impostor):,} impostor.",
            table(("false match rate", "true accept rate"), rows),
            "![ROC, DET and scores](verification.png)",
        ]
    )


def _replay(manifest: EmbedderManifest, figures: EngineFigures) -> str:
    if not figures.measured_fmr:
        return ""
    rows = [(f"{asked:g}", f"{got:.3g}", f"{got / asked:.2f}") for asked, got in figures.measured_fmr.items()]
    on = "" if manifest.calibration is None else f" They were measured on {manifest.calibration.data}."
    return (
        f"## Do the thresholds hold?\n\nThe shipped thresholds on these photos, of people who took no part in the "
        f"calibration.{on}\n\n" + table(("asked FMR", "measured FMR", "ratio"), rows)
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
            f"Through centroids, half of each person's crops enrolled and half searched for, {closed_set.people} "
            f"people with many pictures (most of them trained): {closed_set.probes:,} searches, "
            f"**{closed_set.rank_1:.4f}** at rank 1."
        )
    if figures.searches:
        parts += [
            "Open set, at the thresholds for an asked FPIR:",
            _searches(figures.searches),
        ]  # fmt: skip
    return "\n\n".join(parts)


def _searches(searches: Sequence[IdentificationPoint]) -> str:
    return table(
        ("people enrolled", "asked FPIR", "threshold", "measured FPIR", "95 % interval", "FNIR"),
        (
            (
                f"{p.gallery_size:,}",
                f"{p.asked_fpir:g}",
                f"{p.threshold:.4f}",
                f"{p.fpir:.4f}",
                _interval(p.fpir_interval),
                f"{p.fnir:.4f}",
            )
            for p in searches
        ),
    )


def _templates(templates: Sequence[TemplateFigures]) -> str:
    rows = [
        (f"{t.templates}", f"{t.people}", f"{t.asked:g}", f"{t.fmr_plain / t.asked:.2f}", f"{t.fmr / t.asked:.2f}",
         f"{t.fnmr:.4f}")
        for t in templates
    ]  # fmt: skip
    return (
        "## Several templates of one person\n\nThe nearest of n templates decides. At the threshold for one comparison "
        "the false match rate against a person grows with n; at the one for n comparisons, which the service takes, it "
        "does not.\n\n"
        + table(
            ("templates", "people", "asked FMR", "ratio, threshold for one", "ratio, threshold for n", "FNMR"), rows
        )
    )


def _discard(curve: Sequence[Discard]) -> str:
    first = curve[0].fnmr
    rows = [(f"{p.fraction:.0%}", f"{p.fnmr:.4f}", f"{p.fnmr / first - 1:+.0%}" if first else "") for p in curve]
    return (
        f"## Does quality predict error?\n\nFNMR at FMR {FMR:g} on held-out people as the pictures of lowest quality "
        "are left out.\n\n" + table(("discarded", "FNMR", "change"), rows) + "\n\n![error versus discard](discard.png)"
    )


def _groups(groups: Sequence[Group]) -> str:
    rates = sorted({rate for group in groups for rate in group.fmr}, reverse=True)
    middle = rates[len(rates) // 2] if rates else 0.0
    rows = [
        (
            f"{group.attribute}: {group.value}",
            group.people,
            f"{1 - group.found:.4f}",
            "" if group.quality is None else f"{group.quality:.2f}",
            *(f"{group.fmr[rate]:.2g}" for rate in rates),
            f"{group.fmr[middle] / groups[0].fmr[middle]:.1f}" if rates and groups[0].fmr[middle] else "",
        )
        for group in groups
    ]
    return (
        "## By group\n\nFalse match rates among people of one group, at the shipped thresholds, the same for all. "
        "FairFace has no names (every picture counts as another person; some people appear twice), and its tight crops "
        "end in repeated borders that make all of them alike: the whole set's rates are higher than those of photos. "
        "What tells something about a group is its rate beside everyone's (last column, at an asked "
        f"{middle:g}).\n\n"
        + table(
            (
                "group",
                "pictures",
                "no face found",
                "median quality",
                *(f"FMR asked {rate:g}" for rate in rates),
                "times everyone's",
            ),
            rows,
        )
        + ("\n\n![by group](groups.png)" if rates else "")
    )


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"
