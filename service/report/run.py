"""`python -m service gallery report`: reads one collection and writes its report."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.errors import FmrNotCalibrated, RegistryError, StartupError
from service.gallery.people import collections, templates
from service.gallery.search.sizes import GallerySizes, count
from service.gallery.storage.database import Database
from service.gallery.storage.schema import schema_problem, this_release
from service.recognition.decision import Comparisons, Decision, DecisionPolicy, OperatingPoint
from service.recognition.decision_resolver import DecisionResolver
from service.recognition.outlier import MISFIT_FMR
from service.report.plots import draw, require_plots
from service.report.scores import Gallery, measure
from service.report.text import Facts, Names, gallery_report

MOST_TEMPLATES = 50_000
"""Compared with each other in about a minute; of a larger collection that many are drawn."""
NAMED_PAIRS = 20
EXPECTED_LOOKALIKES = 60
"""Pairs of templates that chance may name: the more, the fewer people who are enrolled twice are missed."""
LOOSEST_FMR = 1e-3


@dataclass(frozen=True)
class Loaded:
    """What was read from the database."""

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
    asked: OperatingPoint | None = None,
) -> Path:
    """Write `report.md` with its pictures for one collection; where it is.

    Args:
        policies: by model; the collection's decides.
        asked: what to decide by instead of the collection's default.

    Raises:
        StartupError: there is no such collection, it is empty, it belongs to a model of which there is no
            bundle, or the operating point can't be resolved.
    """
    require_plots()
    loaded = asyncio.run(_load(url, policies, name, asked))
    policy = policies[loaded.model_id]
    gallery, threshold = loaded.gallery, loaded.decision.threshold
    lookalike_from, expected = _lookalike_threshold(policy, gallery, threshold)
    misfit_below = _threshold_or(policy, MISFIT_FMR, threshold)
    facts = Facts(
        collection=name,
        model_id=loaded.model_id,
        size=loaded.size,
        sampled=len(gallery.owners),
        decision=loaded.decision,
        lookalike_from=lookalike_from,
        misfit_below=misfit_below,
        expected_lookalikes=expected,
    )
    scores = measure(gallery, lookalike_from, misfit_below, NAMED_PAIRS)
    output.mkdir(parents=True, exist_ok=True)
    draw(scores, policy, loaded.size, threshold, output)
    path = output / "report.md"
    path.write_text(gallery_report(facts, scores, policy, loaded.names))
    return path


async def _load(url: str, policies: Mapping[str, DecisionPolicy], name: str, asked: OperatingPoint | None) -> Loaded:
    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as connection:
            if problem := await schema_problem(connection, this_release()):
                raise StartupError(f"The database is not ready: {problem}")
            collection = await collections.get(connection, name)
            model_id = collection.model_id
            if model_id not in policies:
                raise StartupError(
                    f"collection {name!r} belongs to model {model_id!r}, and the bundles are those of "
                    f"{', '.join(policies)}: REGISTRY_EMBEDDER__BUNDLE or REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES names others"
                )
            rows = await templates.sample(connection, collection.id, model_id, MOST_TEMPLATES)
            size = await count(connection, collection.id, model_id)
            decision = await DecisionResolver(policies, GallerySizes()).for_gallery(connection, collection, asked)
    except FmrNotCalibrated as error:
        raise StartupError(f"{error.detail}. For this report, name one with --threshold") from None
    except RegistryError as error:
        raise StartupError(error.detail) from None
    finally:
        await database.close()
    if not rows:
        raise StartupError(f"collection {name!r} has no templates")
    people = list(dict.fromkeys(row.external_id for row in rows))
    numbers = {person: number for number, person in enumerate(people)}
    owners = [numbers[row.external_id] for row in rows]
    gallery = Gallery(np.array([row.embedding for row in rows], np.float32), np.array(owners, np.intp))
    names = Names(people, [str(row.id) for row in rows], owners)
    return Loaded(model_id, gallery, names, Comparisons(size.people, size.templates), decision)


def _lookalike_threshold(policy: DecisionPolicy, gallery: Gallery, otherwise: float) -> tuple[float, float | None]:
    """Strict enough that chance names few, loose enough that somebody enrolled twice is named."""
    if policy.range is None:
        return otherwise, None
    lowest, _ = policy.range
    count, of_each = len(gallery.owners), np.bincount(gallery.owners)
    pairs = (count * (count - 1) - int((of_each * (of_each - 1)).sum())) / 2
    rate = max(min(EXPECTED_LOOKALIKES / max(pairs, 1), LOOSEST_FMR), lowest)
    return policy.threshold_for("fmr", rate), rate * pairs


def _threshold_or(policy: DecisionPolicy, fmr: float, otherwise: float) -> float:
    try:
        return policy.threshold_for("fmr", fmr)
    except FmrNotCalibrated:
        return otherwise
