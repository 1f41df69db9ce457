"""Reads one collection and writes its report: the command `identity-registry gallery report`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.errors import RateNotCalibrated, RegistryError, StartupError
from service.gallery.people import collections, templates
from service.gallery.search.search import count
from service.gallery.storage.database import BACKGROUND_S, Database
from service.gallery.storage.schema import schema_problem, this_release
from service.recognition.decision import OUTLIER_FMR, Decision, DecisionPolicy, DecisionResolver
from service.recognition.operating_point import Comparisons, OperatingPoint
from service.report.plots import draw, require_plots
from service.report.scores import Gallery, measure
from service.report.text import Facts, Names, gallery_report

MAXIMUM_TEMPLATES = 50_000
"""Number of templates that are compared with each other in about a minute. A larger collection is sampled."""
MINIMUM_PAIRS = 20
EXPECTED_DUPLICATES = 60
"""Accepted number of pairs of different people above the duplicate threshold.

A larger number lowers the threshold, so that fewer people who are enrolled twice are missed."""
HIGHEST_FMR = 1e-3


@dataclass(frozen=True)
class Loaded:
    """The templates of one collection (or a sample of them), their names, and the decision."""

    model_id: str
    gallery: Gallery
    names: Names
    size: Comparisons
    decision: Decision


def report(
    url: str,
    policies: Mapping[str, DecisionPolicy],
    name: str,
    output: Path,
    requested: OperatingPoint | None = None,
) -> Path:
    """Writes `report.md` and its plots for one collection and returns the path of `report.md`.

    Args:
        url: URL of the database.
        policies: the decision policy of each model.
        name: name of the collection.
        output: folder of the report.
        requested: operating point in place of the collection's default.

    Raises:
        StartupError: matplotlib is not installed, the schema does not fit, the collection does not exist or is empty,
            its model has no policy, or the calibration does not cover the operating point.
    """
    require_plots()
    loaded = asyncio.run(_load(url, policies, name, requested))
    policy = policies[loaded.model_id]
    gallery, threshold = loaded.gallery, loaded.decision.threshold
    duplicate_threshold, expected = _duplicate_threshold(policy, gallery, threshold)
    facts = Facts(
        collection=name,
        model_id=loaded.model_id,
        size=loaded.size,
        sampled=len(gallery.owners),
        decision=loaded.decision,
        duplicate_threshold=duplicate_threshold,
        outlier_threshold=_outlier_threshold(policy, threshold),
        expected_duplicates=expected,
    )
    scores = measure(gallery, facts.duplicate_threshold, facts.outlier_threshold, MINIMUM_PAIRS)
    output.mkdir(parents=True, exist_ok=True)
    draw(scores, policy, loaded.size, threshold, output)
    path = output / "report.md"
    path.write_text(gallery_report(facts, scores, policy, loaded.names))
    return path


async def _load(
    url: str, policies: Mapping[str, DecisionPolicy], name: str, requested: OperatingPoint | None
) -> Loaded:
    database = Database(url, pool_size=1)
    try:
        async with database.transaction(timeout_s=BACKGROUND_S) as connection:
            if problem := await schema_problem(connection, this_release()):
                raise StartupError(f"the database is not ready: {problem}")
            collection = await collections.get(connection, name)
            model_id = collection.model_id
            if model_id not in policies:
                raise StartupError(
                    f"collection {name!r} uses model {model_id!r}, and the configured bundles contain "
                    f"{', '.join(policies)}; add the bundle of {model_id!r} to REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES"
                )
            rows = await templates.sample(connection, collection.id, model_id, MAXIMUM_TEMPLATES)
            size = await count(connection, collection.id, model_id)
            decision = DecisionResolver(policies).for_gallery(collection, size, requested)
    except RateNotCalibrated as error:
        raise StartupError(f"{error.detail.rstrip('.')}; set --threshold for this report") from None
    except RegistryError as error:
        raise StartupError(error.detail) from None
    finally:
        await database.close()
    if not rows:
        raise StartupError(f"collection {name!r} has no templates; enrol identities first")
    people = list(dict.fromkeys(row.external_id for row in rows))
    numbers = {person: number for number, person in enumerate(people)}
    owners = [numbers[row.external_id] for row in rows]
    gallery = Gallery(np.array([row.embedding for row in rows], np.float32), np.array(owners, np.intp))
    names = Names(people, [str(row.id) for row in rows], owners)
    return Loaded(model_id, gallery, names, Comparisons(size.people, size.templates), decision)


def _duplicate_threshold(policy: DecisionPolicy, gallery: Gallery, default: float) -> tuple[float, float | None]:
    """Returns a threshold that about `EXPECTED_DUPLICATES` pairs of different people exceed, and their expected number.

    Returns `default` and None for a model without calibration.
    """
    if policy.range is None:
        return default, None
    lowest_fmr, _ = policy.range
    total, per_identity = len(gallery.owners), np.bincount(gallery.owners)
    pairs = (total * (total - 1) - int((per_identity * (per_identity - 1)).sum())) / 2
    rate = max(min(EXPECTED_DUPLICATES / max(pairs, 1), HIGHEST_FMR), lowest_fmr)
    return policy.threshold_for("fmr", rate), rate * pairs


def _outlier_threshold(policy: DecisionPolicy, default: float) -> float:
    try:
        return policy.threshold_for("fmr", OUTLIER_FMR)
    except RateNotCalibrated:
        return default
