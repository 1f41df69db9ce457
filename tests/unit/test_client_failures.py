"""Failures of the Python client's requests, on a simulated network."""

import pickle
import traceback
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

import service.errors
from identity_registry import AsyncRegistry, Registry, RetryPolicy
from identity_registry import errors as client_errors
from identity_registry.errors import (
    Conflict,
    DuplicatePerson,
    EngineBusy,
    InvalidRequest,
    NoFace,
    TooManyRequests,
    Unavailable,
    UnexpectedResponse,
    Unreachable,
)
from tests.client_network import IDENTITY, REGISTERED, SEARCHED, SECRET, Network, Step, ok, problem

AMBIGUOUS = [problem(503, "database_unavailable"), httpx.ReadError("broken"), httpx.ReadTimeout("")]
"""Failures that do not show if the service executed the request."""


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Records the waits between attempts instead of waiting."""
    recorded: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", recorded.append)
    return recorded


def test_the_client_has_a_class_for_each_error_code_of_the_service() -> None:
    expected = {kind.code for kind in service.errors.all_errors()}
    assert expected - {kind.code for kind in client_errors.all_errors()} == set()
    grouped = {kind.code: kind for kind in client_errors.all_errors()}
    for kind in service.errors.all_errors():
        group = client_errors.BY_STATUS.get(kind.status, InvalidRequest)
        assert issubclass(grouped[kind.code], group), kind.code


def test_a_rate_limited_request_is_repeated_after_the_requested_seconds(waits: list[float]) -> None:
    network = Network(
        problem(429, "too_many_requests", {"Retry-After": "3"}),
        ok({"name": "x", "identities_deleted": 0, "identities_remaining": 0}),
    )
    assert network.client().delete_collection("x").identities_deleted == 0
    assert waits == [3.0]


def test_retry_after_may_be_a_date(waits: list[float]) -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    Network(problem(503, "engine_busy", {"Retry-After": moment}), ok(SEARCHED)).client().search(b"jpeg")
    assert waits[0] == pytest.approx(10, abs=2)


def test_a_wait_that_exceeds_the_limit_raises_without_a_wait(waits: list[float]) -> None:
    network = Network(problem(429, "too_many_requests", {"Retry-After": "31"}))
    with pytest.raises(TooManyRequests) as caught:
        network.client().search(b"jpeg")
    assert (caught.value.retry_after_s, len(network.requests), waits) == (31.0, 1, [])


def test_the_number_of_attempts_is_limited(waits: list[float]) -> None:
    network = Network(problem(503, "engine_busy", {"Retry-After": "0"}))
    with pytest.raises(EngineBusy, match="503 engine_busy: what to change"):
        network.client(retries=RetryPolicy(max_attempts=3)).search(b"jpeg")
    assert (len(network.requests), waits) == (3, [0.0, 0.0])


@pytest.mark.parametrize("failure", AMBIGUOUS)
def test_a_registration_is_repeated_with_the_same_idempotency_key(failure: Step) -> None:
    network = Network(failure, ok(REGISTERED))
    assert network.client().register("ada", [b"jpeg"]).created
    first, second = (request.headers["Idempotency-Key"] for request in network.requests)
    assert first == second
    network.client().register("ada", [b"jpeg"])
    assert network.requests[-1].headers["Idempotency-Key"] != first


@pytest.mark.parametrize("failure", AMBIGUOUS)
@pytest.mark.parametrize(
    "operation",
    [
        lambda registry: registry.erase_identity(IDENTITY),
        lambda registry: registry.merge_identities(IDENTITY, [uuid.uuid4()]),
        lambda registry: registry.create_collection("x"),
        lambda registry: registry.create_correction(IDENTITY, b"jpeg"),
        lambda registry: registry.cancel_job(IDENTITY),
    ],
)
def test_an_operation_that_must_not_run_twice_is_not_repeated(
    failure: Step, operation: Callable[[Registry], object]
) -> None:
    network = Network(failure)
    with pytest.raises(Unavailable):
        operation(network.client())
    assert len(network.requests) == 1


def test_every_operation_is_repeated_if_the_service_did_not_receive_it() -> None:
    network = Network(
        httpx.ConnectError("refused"), ok({"name": "x", "identities_deleted": 2, "identities_remaining": 0})
    )
    assert network.client().delete_collection("x").identities_deleted == 2


@pytest.mark.anyio
async def test_the_asynchronous_client_has_the_same_policy() -> None:
    network = Network(problem(503, "engine_busy", {"Retry-After": "0"}), httpx.ReadError(""), ok(SEARCHED))
    async with AsyncRegistry("http://registry.test", transport=httpx.MockTransport(network)) as registry:
        assert (await registry.search(b"jpeg")).faces_detected == 1
        network.steps = [httpx.ReadError("")]
        with pytest.raises(Unreachable):
            await registry.erase_identity(IDENTITY)
    assert len(network.requests) == 4


def test_no_message_contains_a_secret() -> None:
    registry = Network(httpx.ConnectError("refused")).client("http://user:password@registry.test:81/base")
    with pytest.raises(Unreachable) as caught:
        registry.search(b"jpeg")
    assert str(caught.value) == (
        "unreachable: POST /search: no response from http://registry.test:81 (ConnectError: refused)"
    )
    assert not caught.value.sent
    shown = "".join(traceback.format_exception(caught.value)) + repr(registry) + repr(registry._http.headers)
    assert SECRET not in shown
    assert "password" not in shown


def test_a_response_of_a_later_release_is_accepted() -> None:
    response = (
        Network(ok(REGISTERED | {"new": 1, "images": [{"status": "new", "more": []}]})).client().register("a", b"-")
    )
    assert response.images[0].status == "new"


def test_an_unexpected_response_is_an_error_without_the_values_of_the_response() -> None:
    network = Network(ok(REGISTERED | {"identity_id": "biometric", "label": 5}))
    with pytest.raises(UnexpectedResponse, match="differs in identity_id, label") as caught:
        network.client().register("ada", b"jpeg")
    assert "biometric" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(UnexpectedResponse, match="set the URL of the client to that server"):
        Network(httpx.Response(308, headers={"Location": "https://registry.test/search"})).client().search(b"jpeg")


def test_an_unknown_error_code_has_the_class_of_its_status() -> None:
    with pytest.raises(Conflict) as caught:
        Network(problem(409, "brand_new", pointer="/x", request_id="r", more=[1])).client().search(b"jpeg")
    assert (type(caught.value), caught.value.code, caught.value.extensions) == (Conflict, "brand_new", {"more": [1]})
    assert str(caught.value) == "409 brand_new: what to change (pointer /x, request r)"
    with pytest.raises(InvalidRequest):
        Network(problem(418, "teapot")).client().search(b"jpeg")


def test_the_error_of_a_proxy_is_reported() -> None:
    network = Network(httpx.Response(502, text="<html>"))
    with pytest.raises(Unavailable, match="HTTP 502 without a problem document"):
        network.client(retries=RetryPolicy(max_attempts=1)).search(b"jpeg")


def test_errors_can_be_pickled() -> None:
    with pytest.raises(DuplicatePerson) as caught:
        Network(problem(409, "duplicate_person")).client().register("ada", b"jpeg")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.status) == (DuplicatePerson, str(caught.value), 409)


def test_a_rejected_picture_is_not_repeated() -> None:
    network = Network(problem(422, "no_face"))
    with pytest.raises(NoFace):
        network.client().search(b"jpeg")
    assert len(network.requests) == 1
