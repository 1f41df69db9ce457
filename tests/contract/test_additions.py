"""What a key without the scope `manage` may add to and change of an existing identity."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.gallery.access.scopes import Scope
from tests.contract.api_keys import new_key
from tests.photos import COLLINS, HOPPER, b64, brighter

pytestmark = pytest.mark.usefixtures("database_url_variable")
Send = Callable[..., httpx.Response]


@pytest.fixture
def name(send: Send) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    assert send(new_key(), "POST", "/collections", json={"name": name}).status_code == 201
    return name


def register(send: Send, key: str, name: str, *photos: bytes, **fields: object) -> httpx.Response:
    body = {"external_id": "7", "images": [b64(photo) for photo in photos], **fields}
    return send(key, "POST", "/register", params={"collection": name}, json=body)


def test_enrol_key_adds_pictures_that_match_only(send: Send, name: str) -> None:
    enrol, verify = new_key(Scope.ENROL), new_key(Scope.VERIFY)
    assert register(send, enrol, name, COLLINS.read_bytes(), label="Eileen").status_code == 201
    added = register(send, enrol, name, brighter(COLLINS, 0.8))
    assert (added.status_code, added.json()["template_count"]) == (200, 2)
    refused = register(send, enrol, name, HOPPER.read_bytes())
    assert (refused.status_code, refused.json()["code"]) == (422, "addition_rejected")
    assert "Eileen" not in refused.text
    mixed = register(send, enrol, name, HOPPER.read_bytes(), brighter(COLLINS, 1.2)).json()
    assert [image["status"] for image in mixed["images"]] == ["rejected", "accepted"]
    assert mixed["images"][0]["code"] == "addition_rejected"
    assert mixed["template_count"] == 3
    probe = {"external_id": "7", "image": b64(HOPPER.read_bytes())}
    assert not send(verify, "POST", "/verify", params={"collection": name}, json=probe).json()["match"]


def test_manage_key_and_collections_that_allow_it_add_any_picture(send: Send, name: str) -> None:
    enrol, manage = new_key(Scope.ENROL), new_key(Scope.ENROL, Scope.MANAGE)
    register(send, enrol, name, COLLINS.read_bytes())
    assert register(send, manage, name, HOPPER.read_bytes()).json()["template_count"] == 2
    changed = send(manage, "PATCH", f"/collections/{name}", json={"additions": "any"})
    assert changed.json()["additions"] == "any"
    assert register(send, enrol, name, brighter(HOPPER, 0.8)).json()["template_count"] == 3


@pytest.mark.parametrize("field", ["label", "metadata", "retain_until"])
def test_enrol_key_cannot_change_an_existing_identity(field: str, send: Send, name: str) -> None:
    """An enrol key could erase a person by a retention time in the near future."""
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    values = {"label": "Eileen", "metadata": {"team": "crew"}, "retain_until": None}
    other = {"label": "Grace", "metadata": {"team": "other"}, "retain_until": soon}
    enrol, manage = new_key(Scope.ENROL), new_key(Scope.ENROL, Scope.MANAGE)
    first = register(send, enrol, name, COLLINS.read_bytes(), label="Eileen", metadata={"team": "crew"})
    assert first.status_code == 201
    again = register(send, enrol, name, brighter(COLLINS, 0.9), **{field: values[field]})
    assert again.status_code == 200, again.text
    refused = register(send, enrol, name, brighter(COLLINS, 0.8), **{field: other[field]})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")
    assert refused.json()["pointer"] == f"/{field}"
    path, query = f"/identities/{first.json()['identity_id']}", {"collection": name}
    identity = send(manage, "GET", path, params=query).json()
    assert {key: identity[key] for key in values} == values
    assert identity["template_count"] == 2
    assert register(send, manage, name, brighter(COLLINS, 0.7), **{field: other[field]}).status_code == 200
    entries = send(new_key(Scope.AUDIT), "GET", "/audit", params=query).json()["entries"]
    enrolments = [entry["details"].get("changed") for entry in entries if entry["action"] == "enrol"]
    assert enrolments[-1] == [field]


def test_a_label_without_an_external_id_names_the_identity_and_does_not_change_its_label(send: Send, name: str) -> None:
    enrol, manage, query = new_key(Scope.ENROL), new_key(Scope.MANAGE), {"collection": name}
    body = {"label": "Eileen", "images": [b64(COLLINS.read_bytes())]}
    created = send(enrol, "POST", "/register", params=query, json=body).json()
    send(manage, "PATCH", f"/identities/{created['identity_id']}", params=query, json={"label": "Eileen C."})
    added = send(enrol, "POST", "/register", params=query, json=body | {"images": [b64(brighter(COLLINS, 0.8))]})
    assert (added.status_code, added.json()["label"]) == (200, "Eileen C.")


def test_a_verification_that_does_not_match_returns_nothing_about_the_identity(send: Send, name: str) -> None:
    register(send, new_key(Scope.ENROL), name, COLLINS.read_bytes(), label="Eileen", metadata={"team": "crew"})
    verify = new_key(Scope.VERIFY)
    probe = {"external_id": "7", "image": b64(HOPPER.read_bytes())}
    response = send(verify, "POST", "/verify", params={"collection": name}, json=probe)
    assert response.json()["identity"] is None
    assert "Eileen" not in response.text
    probe["image"] = b64(brighter(COLLINS, 0.9))
    assert send(verify, "POST", "/verify", params={"collection": name}, json=probe).json()["identity"]["label"]
