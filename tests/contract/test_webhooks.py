"""Tests of webhooks with a real HTTP receiver: events, signatures, repetitions, refused destinations."""

import contextlib
import shutil
import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from service.runtime.api import create_app
from service.runtime.settings import load_settings
from tests.conftest import open_folder, serving
from tests.contract.webhook_receiver import Receiver, is_valid
from tests.photos import BUS, COLLINS, HOPPER, b64, zipped
from tests.server import wait_for

EVENTS = ["match", "unknown", "enrolled", "erased", "job_done"]
WAIT_S = 30


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with contextlib.closing(Receiver()) as receiver:
        yield receiver


@pytest.fixture
def receiver(server: Receiver) -> Receiver:
    server.reset()
    return server


@pytest.fixture(scope="module")
def hooked(server: Receiver) -> Iterator[httpx.Client]:
    """A service whose webhooks may contact the receiver, and which gives an event up after two attempts.

    It has a database of its own: other services on the same database deliver its events with their own settings.
    """
    folder = open_folder()
    limits = {"allowed_hosts": [server.host, "127.0.0.1:9"], "max_attempts": 2, "max_per_collection": 3}
    with serving(create_app(load_settings(data_dir=folder, webhooks=limits))) as client:
        yield client
    shutil.rmtree(folder)


@pytest.fixture
def name(hooked: httpx.Client) -> str:
    name = f"hooks-{uuid.uuid4().hex[:12]}"
    assert hooked.post("/collections", json={"name": name}).status_code == 201
    return name


def create(client: httpx.Client, name: str, host: str, events: list[str] | None = None) -> dict:
    body = {"url": f"http://{host}/hook?x=1", "events": events or EVENTS}
    response = client.post(f"/collections/{name}/webhooks", json=body)
    assert response.status_code == 201, response.text
    return response.json()


def register(client: httpx.Client, name: str, external_id: str = "collins", photo: bytes | None = None) -> str:
    person = {"external_id": external_id, "image": b64(photo or COLLINS.read_bytes())}
    response = client.post("/register", params={"collection": name}, json=person)
    assert response.status_code == 201
    return response.json()["identity_id"]


def test_every_event_arrives_once_signed_and_without_biometric_data(
    hooked: httpx.Client, name: str, receiver: Receiver
) -> None:
    hook = create(hooked, name, receiver.host)
    identity_id = register(hooked, name)
    params = {"collection": name}
    hooked.post("/search", params=params, json={"image": b64(COLLINS.read_bytes())})
    hooked.post("/search", params=params, json={"image": b64(HOPPER.read_bytes())})
    hooked.post("/verify", params=params, json={"image_a": b64(COLLINS.read_bytes()), "external_id": "collins"})
    hooked.post("/verify", params=params, json={"image_a": b64(HOPPER.read_bytes()), "external_id": "collins"})
    archive = zipped({"hopper/1.jpg": HOPPER.read_bytes(), "bus/1.jpg": BUS.read_bytes()})
    job = hooked.post(
        "/jobs/enrolments", params=params, content=archive, headers={"content-type": "application/zip"}
    ).json()
    wait_for(lambda: receiver.accepted("job_done") != [], WAIT_S)
    hooked.delete(f"/identities/{identity_id}", params=params)
    wait_for(lambda: receiver.accepted("erased") != [], WAIT_S)
    time.sleep(2.5)  # nothing arrives twice
    kinds = sorted(item.body["type"] for item in receiver.received)
    assert kinds == ["enrolled", "enrolled", "erased", "job_done", "match", "match", "unknown"]
    for item in receiver.received:
        assert item.path == "/hook?x=1"
        assert item.headers["content-type"] == "application/json"
        assert is_valid(item, hook["secret"])
        assert item.body["data"]["collection"] == name
    for item in receiver.accepted("match"):
        assert item.body["data"]["identity_ids"] == [identity_id]
    assert receiver.accepted("unknown")[0].body["data"]["identity_ids"] == []
    assert receiver.accepted("erased")[0].body["data"]["identity_ids"] == [identity_id]
    ended = receiver.accepted("job_done")[0].body["data"]
    assert ended == {"collection": name, "job_id": job["id"], "kind": "enrolment", "state": "done"}
    text = " ".join(item.content.decode() for item in receiver.received)
    assert not any(word in text for word in ("embedding", "image", "score", "box"))
    assert len({item.headers["webhook-id"] for item in receiver.received}) == len(receiver.received)
    path = f"/collections/{name}/webhooks/{hook['id']}/deliveries"
    deliveries = hooked.get(path, params={"state": "delivered"}).json()["deliveries"]
    assert len(deliveries) == len(receiver.received)
    assert {item["attempts"] for item in deliveries} == {1}


def test_a_receiver_that_fails_half_of_the_time_gets_every_event(
    hooked: httpx.Client, name: str, receiver: Receiver
) -> None:
    receiver.status = lambda attempt: 500 if attempt % 2 else 200
    hook = create(hooked, name, receiver.host, ["match"])
    register(hooked, name)
    for _ in range(6):
        hooked.post("/search", params={"collection": name}, json={"image": b64(COLLINS.read_bytes())})
    wait_for(lambda: len(receiver.accepted("match")) == 6, WAIT_S)
    ids = [item.headers["webhook-id"] for item in receiver.accepted()]
    assert len(set(ids)) == 6
    assert len(receiver.received) == 12
    assert all(is_valid(item, hook["secret"]) for item in receiver.received)


@pytest.mark.parametrize("status", [500, 302])
def test_an_event_that_is_never_accepted_is_listed_as_failed(
    hooked: httpx.Client, name: str, receiver: Receiver, status: int
) -> None:
    receiver.status = lambda attempt: status
    hook = create(hooked, name, receiver.host, ["enrolled"])
    register(hooked, name)
    path = f"/collections/{name}/webhooks/{hook['id']}/deliveries"
    wait_for(lambda: hooked.get(path, params={"state": "failed"}).json()["deliveries"] != [], WAIT_S)
    [delivery] = hooked.get(path).json()["deliveries"]
    assert (delivery["event"], delivery["attempts"]) == ("enrolled", 2)
    assert delivery["problem"] == f"HTTP status {status}"
    assert delivery["body"]["data"]["collection"] == name
    first, second = (item.at for item in receiver.received)
    assert second - first >= 1.5


def test_a_webhook_reports_only_what_happens_after_its_creation_and_its_own_events(
    hooked: httpx.Client, name: str, receiver: Receiver
) -> None:
    identity_id = register(hooked, name)
    hooked.post("/search", params={"collection": name}, json={"image": b64(COLLINS.read_bytes())})
    create(hooked, name, receiver.host, ["erased"])
    register(hooked, name, "hopper", HOPPER.read_bytes())
    hooked.delete(f"/identities/{identity_id}", params={"collection": name})
    wait_for(lambda: receiver.received != [], WAIT_S)
    time.sleep(2)
    assert [item.body["type"] for item in receiver.received] == ["erased"]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "http://127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://user:password@127.0.0.1:9/",
        "http://[::1/",
        "https://127.0.0.1:9@example.org/",
    ],
)
def test_destinations_that_are_not_allowed_are_refused(hooked: httpx.Client, name: str, url: str) -> None:
    response = hooked.post(f"/collections/{name}/webhooks", json={"url": url, "events": ["match"]})
    assert (response.status_code, response.json()["code"]) == (403, "url_not_allowed")
    assert hooked.get(f"/collections/{name}/webhooks").json()["webhooks"] == []


@pytest.mark.parametrize(
    "body",
    [
        {"url": "ftp://127.0.0.1:9/", "events": ["match"]},
        {"url": "http://127.0.0.1:9/\nx", "events": ["match"]},
        {"url": "http://127.0.0.1:9/", "events": []},
        {"url": "http://127.0.0.1:9/", "events": ["everything"]},
        {"url": "http://127.0.0.1:9/" + "x" * 2000, "events": ["match"]},
        {"url": "http://127.0.0.1:9/"},
    ],
)
def test_malformed_webhooks_are_refused(hooked: httpx.Client, name: str, body: dict) -> None:
    response = hooked.post(f"/collections/{name}/webhooks", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_by_default_no_destination_is_allowed(client: httpx.Client, collection_name: str) -> None:
    body = {"url": "https://example.org/", "events": ["match"]}
    response = client.post(f"/collections/{collection_name}/webhooks", json=body)
    assert (response.status_code, response.json()["code"]) == (403, "url_not_allowed")


def test_webhooks_are_listed_without_secrets_limited_and_deleted(
    hooked: httpx.Client, name: str, receiver: Receiver
) -> None:
    created = [create(hooked, name, "127.0.0.1:9", ["match"]) for _ in range(3)]
    path = f"/collections/{name}/webhooks"
    fourth = hooked.post(path, json={"url": "http://127.0.0.1:9/", "events": ["match"]})
    assert (fourth.status_code, fourth.json()["code"]) == (409, "conflict")
    first = hooked.get(path, params={"limit": 2}).json()
    rest = hooked.get(path, params={"limit": 2, "cursor": first["next_cursor"]}).json()
    listed = first["webhooks"] + rest["webhooks"]
    assert [item["id"] for item in listed] == [item["id"] for item in created]
    assert all("secret" not in item for item in listed)
    assert len({item["secret"] for item in created}) == 3
    assert hooked.delete(f"{path}/{created[0]['id']}").status_code == 204
    again = hooked.delete(f"{path}/{created[0]['id']}")
    assert (again.status_code, again.json()["code"]) == (404, "webhook_not_found")
    missing = hooked.get(f"{path}/{created[0]['id']}/deliveries")
    assert (missing.status_code, missing.json()["code"]) == (404, "webhook_not_found")
    actions = [entry["action"] for entry in hooked.get("/audit", params={"collection": name}).json()["entries"]]
    assert actions.count("webhook-create") == 3
    assert actions.count("webhook-delete") == 1


def test_a_deleted_collection_takes_its_webhooks_with_it(hooked: httpx.Client, name: str, receiver: Receiver) -> None:
    create(hooked, name, receiver.host)
    register(hooked, name)
    wait_for(lambda: receiver.received != [], WAIT_S)
    assert hooked.delete(f"/collections/{name}").status_code in {200, 202}
    assert hooked.get(f"/collections/{name}/webhooks").status_code == 404
