"""Reads one collection and writes its report: the command `identity-registry gallery report`."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from service.errors import ModelNotLoaded, RateNotCalibrated, RegistryError, StartupError
from service.gallery.storage.database import Database
from service.gallery.storage.schema import schema_problem, this_release
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.gallery_comparison import GalleryComparer, GalleryComparison
from service.recognition.operating_point import OperatingPoint
from service.report.plots import draw, require_plots
from service.report.text import gallery_report

MAXIMUM_TEMPLATES = 50_000
"""Number of templates that are compared with each other in about a minute. A larger collection is sampled."""


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
    comparison = asyncio.run(_compare(url, policies, name, requested))
    policy = policies[comparison.model_id]
    output.mkdir(parents=True, exist_ok=True)
    draw(comparison.scores, policy, comparison.size, comparison.decision.threshold, output)
    path = output / "report.md"
    path.write_text(gallery_report(comparison, policy))
    return path


async def _compare(
    url: str, policies: Mapping[str, DecisionPolicy], name: str, requested: OperatingPoint | None
) -> GalleryComparison:
    database = Database(url, pool_size=1)
    try:
        async with database.transaction() as connection:
            if problem := await schema_problem(connection, this_release()):
                raise StartupError(f"the database is not ready: {problem}")
        comparer = GalleryComparer(database, DecisionResolver(policies), MAXIMUM_TEMPLATES)
        comparison = await comparer.compare(name, requested)
    except RateNotCalibrated as error:
        raise StartupError(f"{error.detail.rstrip('.')}; set --threshold for this report") from None
    except ModelNotLoaded:
        raise StartupError(
            f"collection {name!r} uses a model that is not one of the configured bundles ({', '.join(policies)}); add "
            "its bundle to REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES"
        ) from None
    except RegistryError as error:
        raise StartupError(error.detail) from None
    finally:
        await database.close()
    if not comparison.compared:
        raise StartupError(f"collection {name!r} has no templates; enrol identities first")
    return comparison
