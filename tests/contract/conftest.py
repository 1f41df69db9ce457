"""A service with three models, for the tests of model migration and of stored crops."""

from collections.abc import Iterator

import httpx
import pytest

from service.runtime.api import create_app
from service.runtime.settings import Settings, load_settings
from tests.bundles import write_rotated_embedder
from tests.conftest import serving
from tests.contract.model_migration import (
    KEY,
    SAME_DIM_MODEL,
    SECOND_MODEL,
)


@pytest.fixture(scope="session")
def multi_model_settings(postgres_url: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings of a service with three models. It shares the database of the service of `client`, which has one."""
    folder = tmp_path_factory.mktemp("bundles")
    additional_bundles = [
        write_rotated_embedder(folder / SECOND_MODEL, 160, SECOND_MODEL),
        write_rotated_embedder(folder / SAME_DIM_MODEL, 128, SAME_DIM_MODEL),
    ]
    return load_settings(
        database={"url": postgres_url, "maintenance_interval_s": 2},
        embedder={"additional_bundles": additional_bundles},
        audit={"key": settings.audit.key},
        crops={"key": KEY},
        jobs={"uploads": settings.jobs.uploads},
    )


@pytest.fixture(scope="module")
def multi_model(multi_model_settings: Settings) -> Iterator[httpx.Client]:
    """A client of a service with three models."""
    with serving(create_app(multi_model_settings)) as client:
        yield client
