"""A simulated network for the Python client: prepared responses and failures instead of a service."""

import uuid

import httpx

from identity_registry import Registry

IDENTITY = uuid.uuid4()
SECRET = "ir_secret"
REGISTERED = {
    "identity_id": str(IDENTITY),
    "external_id": "ada",
    "label": "ada",
    "collection": "default",
    "created": True,
    "template_count": 1,
    "images": [{"status": "accepted"}],
}
SEARCHED = {
    "results": [{"candidates": []}],
    "faces_detected": 1,
    "plan": "exact",
    "search_ms": 1.0,
    "threshold": 0.3,
    "model_id": "m",
    "precision": "f32",
}
Step = httpx.Response | Exception


class Network:
    """Returns prepared responses, or raises prepared exceptions, and records the requests."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        step = self.steps[min(len(self.requests), len(self.steps)) - 1]
        if isinstance(step, Exception):
            raise step
        return step

    def client(self, url: str = "http://registry.test", **options: object) -> Registry:
        return Registry(url, SECRET, transport=httpx.MockTransport(self), **options)


def problem(status: int, code: str, headers: dict[str, str] | None = None, **members: object) -> httpx.Response:
    document = {"type": "urn:x", "title": "Title", "status": status, "code": code, "detail": "what to change"}
    return httpx.Response(status, json=document | members, headers=headers)


def ok(document: dict[str, object]) -> httpx.Response:
    return httpx.Response(200, json=document)
