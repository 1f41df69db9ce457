"""An Idempotency-Key belongs to one API key."""

import uuid
from collections.abc import Callable

import httpx
import pytest

from service.gallery.access.scopes import Scope
from tests.contract.api_keys import new_key
from tests.photos import COLLINS, HOPPER, b64

pytestmark = pytest.mark.usefixtures("database_url_variable")


def test_another_api_key_cannot_read_a_stored_response(send: Callable[..., httpx.Response]) -> None:
    ours, theirs, name = new_key(Scope.ENROL), new_key(Scope.ENROL), f"test-{uuid.uuid4().hex[:12]}"
    send(new_key(), "POST", "/collections", json={"name": name})
    query, headers = {"collection": name}, {"Idempotency-Key": "import-1"}
    body = {"external_id": "1", "images": [b64(COLLINS.read_bytes())]}
    first = send(ours, "POST", "/register", headers, params=query, json=body)
    assert send(ours, "POST", "/register", headers, params=query, json=body).headers["Idempotency-Replayed"] == "true"
    other = {"external_id": "2", "images": [b64(HOPPER.read_bytes())]}
    second = send(theirs, "POST", "/register", headers, params=query, json=other)
    assert second.status_code == 201
    assert second.json()["identity_id"] != first.json()["identity_id"]
