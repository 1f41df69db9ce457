"""HTTP requests of the Python client."""

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from identity_registry import UNSET, AsyncRegistry, Registry
from identity_registry.errors import RegistryError
from tests.client_network import IDENTITY, REGISTERED, SEARCHED, Network, ok, problem


def test_pictures_are_sent_as_multipart_without_their_file_names(tmp_path: Path) -> None:
    (tmp_path / "ada-lovelace.jpg").write_bytes(b"jpeg-1")
    network = Network(ok(REGISTERED))
    with (tmp_path / "ada-lovelace.jpg").open("rb") as file:
        pictures = [str(tmp_path / "ada-lovelace.jpg"), tmp_path / "ada-lovelace.jpg", b"jpeg-2", file]
        network.client().register("ada", pictures, metadata={"floor": 3}, force=True, collection="staff")
    [request] = network.requests
    content = request.content
    assert request.headers["content-type"].startswith("multipart/form-data")
    assert request.url.params["collection"] == "staff"
    assert (content.count(b"jpeg-1"), content.count(b"jpeg-2"), content.count(b'name="images"')) == (3, 1, 4)
    assert b"lovelace" not in content
    assert b'{"floor": 3}' in content
    assert b"true" in content


def test_embeddings_are_sent_as_json() -> None:
    network = Network(ok(SEARCHED))
    network.client().search(embedding=[0.5, -1.0], model_id="m")
    body = json.loads(network.requests[0].content)
    assert body == {"embedding": "AAAAPwAAgL8=", "model_id": "m"}


def test_arguments_that_are_unset_are_not_sent() -> None:
    identity = {"id": str(IDENTITY), "external_id": "a", "label": "a", "metadata": {}, "template_count": 1}
    network = Network(ok(identity | {"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}))
    network.client().update_identity(IDENTITY, retain_until=None, label=UNSET)
    assert json.loads(network.requests[0].content) == {"retain_until": None}
    moment = datetime(2099, 1, 1, tzinfo=UTC)
    network.client().update_identity(IDENTITY, retain_until=moment)
    assert json.loads(network.requests[1].content) == {"retain_until": "2099-01-01T00:00:00+00:00"}


def test_a_list_is_read_page_by_page() -> None:
    rows = [{"name": name, "id": name} for name in "abc"]
    templates = [
        {"id": str(uuid.uuid4()), "model_id": row["name"], "box": [0, 0, 1, 1], "detection_score": 1}
        | {"created_at": "2026-01-01T00:00:00Z"}
        for row in rows
    ]
    network = Network(
        ok({"templates": templates[:2], "next_cursor": "here"}), ok({"templates": templates[2:], "next_cursor": None})
    )
    templates_read = list(network.client().list_templates(IDENTITY, page_size=2))
    assert [template.model_id for template in templates_read] == ["a", "b", "c"]
    assert network.requests[1].url.params["cursor"] == "here"
    assert network.requests[1].url.params["limit"] == "2"


def test_names_are_percent_encoded() -> None:
    network = Network(problem(404, "collection_not_found"))
    with pytest.raises(RegistryError):
        network.client().read_collection("../a b?")
    assert network.requests[0].url.raw_path == b"/collections/..%2Fa%20b%3F"


def test_the_url_must_be_an_http_url() -> None:
    with pytest.raises(ValueError, match="http://"):
        Registry("registry:8000")


def test_both_clients_have_the_documentation_of_each_operation() -> None:
    for client in (Registry, AsyncRegistry):
        operations = [name for name in dir(client) if not name.startswith("_")]
        assert len(operations) > 35
        assert [name for name in operations if not getattr(client, name).__doc__] == []
