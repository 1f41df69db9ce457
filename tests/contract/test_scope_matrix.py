"""Every operation with a key of every single scope: exactly the documented scope opens it."""

import re
import uuid
from collections.abc import Callable

import httpx
import pytest

from service.gallery.access.scopes import Scope
from tests.contract.api_keys import new_key

pytestmark = pytest.mark.usefixtures("database_url_variable")
ANY, NONE = "any key", "no key"
SCOPES: dict[str, set[Scope] | str] = {
    "register": {Scope.ENROL},
    "start_enrolment_job": {Scope.ENROL},
    "start_embedding_enrolment_job": {Scope.ENROL},
    "list_jobs": {Scope.ENROL},
    "read_job": {Scope.ENROL},
    "cancel_job": {Scope.ENROL},
    "list_job_rows": {Scope.ENROL},
    "download_job_rows_jsonl": {Scope.ENROL},
    "download_job_rows_csv": {Scope.ENROL},
    "verify": {Scope.VERIFY},
    "search": {Scope.SEARCH},
    "predict": {Scope.SEARCH},
    "embed": {Scope.EMBEDDINGS},
    "list_audit_entries": {Scope.AUDIT},
    "list_audit_heads": {Scope.AUDIT},
    "read_metrics": {Scope.METRICS},
    "export_identity": set(),  # needs two scopes
    "list_models": ANY,
    "read_calibration": ANY,
    "read_det_curve": ANY,
    "healthz": NONE,
    "readyz": NONE,
}
"""The scopes of operations by operationId. All operations that are not listed need `manage`."""


def test_each_operation_accepts_exactly_its_scope(send: Callable[..., httpx.Response], guarded: httpx.Client) -> None:
    keys = {scope: new_key(scope) for scope in Scope}
    checked = 0
    for path, item in guarded.get("/openapi.json").json()["paths"].items():
        for method, operation in item.items():
            name = operation["operationId"]
            required = SCOPES.get(name, {Scope.MANAGE})
            url = re.sub(r"\{\w+\}", str(uuid.uuid4()), path)
            for scope, key in keys.items():
                response = send(key, method.upper(), url)
                is_refused = response.status_code == 403 and response.json()["code"] == "not_allowed"
                is_allowed = isinstance(required, str) or scope in required
                assert is_refused != is_allowed, (name, scope, response.status_code)
                checked += 1
            anonymous = guarded.request(method.upper(), url)
            assert (anonymous.status_code == 401) == (required != NONE), name
    assert checked > 250


def test_export_needs_two_scopes(send: Callable[..., httpx.Response]) -> None:
    path = f"/identities/{uuid.uuid4()}/export"
    assert send(new_key(Scope.MANAGE), "GET", path).status_code == 403
    assert send(new_key(Scope.MANAGE, Scope.EMBEDDINGS), "GET", path).status_code == 404
