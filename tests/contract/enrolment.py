"""Creates collections, enrols pictures and counts identities with requests to the API."""

import uuid

import httpx

from tests.photos import COLLINS, HOPPER, b64, encoded, pixels

FACE, OTHER = COLLINS.read_bytes(), HOPPER.read_bytes()
JPEG = encoded(pixels(COLLINS), quality=90)


def create_collection(client: httpx.Client, **policies: object) -> str:
    """Creates a collection with the policies and returns its name."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    response = client.post("/collections", json={"name": name, **policies})
    assert response.status_code == 201, response.text
    assert {policy: response.json()[policy] for policy in policies} == policies
    return name


def register(
    client: httpx.Client, collection: str, label: str, *images: bytes, key: str | None = None, **fields: object
) -> httpx.Response:
    """Enrols images under a label, with an idempotency key if one is given, and returns the response."""
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"label": label, "images": [b64(image) for image in images], **fields}
    return client.post("/register", params={"collection": collection}, json=body, headers=headers)


def count(client: httpx.Client, name: str) -> int:
    """Returns the number of identities of a collection."""
    return len(client.get("/identities", params={"collection": name}).json()["identities"])


def identity_count(client: httpx.Client, collection_name: str) -> int:
    """Returns the number of identities that the list of collections states for a collection."""
    collections = client.get("/collections").json()["collections"]
    return next(item["identity_count"] for item in collections if item["name"] == collection_name)
