"""A service with three models, for the tests of model migration and of stored crops, and one that requires API keys."""

import os
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest

from service.runtime.api import create_app
from service.runtime.settings import Settings, load_settings
from tests.bundles import write_rotated_embedder
from tests.conftest import serving
from tests.contract.api_keys import new_key
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


@pytest.fixture(scope="module")
def guarded_settings(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(
        database={"url": postgres_url},
        server={"require_keys": True},
        audit={"key": "the audit key of the tests, long enough"},
        jobs={"uploads": tmp_path_factory.mktemp("uploads")},
    )


@pytest.fixture(scope="module")
def database_url_variable(postgres_url: str) -> Iterator[None]:
    """Sets the environment variable from which key operations read the address of the database."""
    os.environ["REGISTRY_DATABASE__URL"] = postgres_url
    yield
    del os.environ["REGISTRY_DATABASE__URL"]


@pytest.fixture(scope="module")
def guarded(guarded_settings: Settings, database_url_variable: None) -> Iterator[httpx.Client]:
    """A service that requires a key for every operation."""
    new_key()
    with serving(create_app(guarded_settings)) as client:
        yield client


@pytest.fixture
def send(guarded: httpx.Client) -> Callable[..., httpx.Response]:
    """Returns a function that sends a request with an API key."""

    def request(
        key: str, method: str, path: str, headers: Mapping[str, str] | None = None, **arguments: object
    ) -> httpx.Response:
        all_headers = {"x-api-key": key, **(headers or {})}
        return guarded.request(method, path, headers=all_headers, **arguments)  # type: ignore[arg-type]

    return request
