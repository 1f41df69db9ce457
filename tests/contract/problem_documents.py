"""Checks the problem documents of refused requests."""

import httpx


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, object]:
    """Checks a problem document (RFC 9457) and returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = response.json()
    assert document["code"] == code, document
    assert document["status"] == status
    assert document["type"] == f"urn:identity-registry:problem:{code}"
    assert document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document
