"""Schemathesis checks the responses of the service to generated requests against the OpenAPI document."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from pydantic import SecretStr
from schemathesis.specs.openapi.checks import positive_data_acceptance

from service.gallery.access import api_keys
from service.gallery.access.scopes import Scope
from service.gallery.storage import schema as gallery_schema
from service.gallery.storage.database import Database
from service.runtime.api import create_app
from service.runtime.settings import Settings, load_settings
from tests.conftest import serving
from tests.databases import new_database
from tools.fuzz import zip_bodies  # noqa: F401  registers their serializer

EXAMPLES = 12
EXCLUDED_CHECKS = [positive_data_acceptance]
"""This check requires that the service accepts every request that is valid under the schema. JSON Schema cannot express
which strings are pictures, or which fields exclude each other."""


@pytest.fixture(scope="module")
def fuzzed(settings: Settings) -> Iterator[httpx.Client]:
    """A service with a database of its own, because generated requests change and delete data."""
    with new_database(str(settings.database_url)) as url:
        gallery_schema.upgrade(url)
        database = settings.database.model_copy(update={"url": SecretStr(url)})
        server = settings.server.model_copy(update={"require_keys": True})
        changed = settings.model_copy(update={"database": database, "server": server})
        with serving(create_app(changed)) as client:
            client.headers["x-api-key"] = asyncio.run(_key(url))
            yield client


async def _key(url: str) -> str:
    database = Database(url)
    async with database.transaction() as connection:
        secret = await api_keys.create(connection, "fuzzer", list(Scope))
    await database.close()
    return secret


DOCUMENT = schemathesis.openapi.from_dict(create_app(load_settings()).openapi())
OPERATIONS = [result.ok() for result in DOCUMENT.get_all_operations()]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_responses_conform_to_the_openapi_document(fuzzed: httpx.Client, operation: schemathesis.APIOperation) -> None:
    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(
            base_url=str(fuzzed.base_url),
            headers={"X-API-Key": fuzzed.headers["x-api-key"]},
            excluded_checks=EXCLUDED_CHECKS,
        )

    check()
