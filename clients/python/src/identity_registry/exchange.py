"""Conversions between requests, HTTP messages and errors that both clients share."""

import email.utils
import time
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from identity_registry.errors import Problem, RegistryError, UnexpectedResponse, Unreachable, error_of
from identity_registry.requests import Request

Response = TypeVar("Response")
MEMBERS = {"type", "title", "status", "code", "detail", "pointer", "request_id"}
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Failures after which the service certainly did not receive the request."""


def client_options(url: str, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Returns the arguments of an httpx client.

    Raises:
        ValueError: the URL is not an HTTP URL.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError("the URL of the registry must start with http:// or https://")
    headers = {"User-Agent": f"identity-registry-client/{version('identity-registry-client')}"}
    if api_key is not None:
        # httpx omits this header from its own representations; it would print X-API-Key.
        headers["Authorization"] = f"Bearer {api_key}"
    return {"base_url": url, "headers": headers, "timeout": timeout_s}


def request_options(request: Request[Any]) -> dict[str, Any]:
    """Reads the pictures of a request and returns the arguments of the httpx request.

    Raises:
        OSError: a picture cannot be read.
    """
    body: dict[str, Any] = {} if request.body is None else request.body.encode()
    headers = {**body.pop("headers", {}), **request.headers}
    if request.archive is not None:
        headers["Content-Length"] = str(request.archive.stat().st_size)
    return {"method": request.method, "url": request.path, "params": request.query, "headers": headers, **body}


def address(url: httpx.URL) -> str:
    """Returns scheme, host and port: a URL may contain a password, and this text appears in messages."""
    return f"{url.scheme}://{url.netloc.decode()}"


def unreachable(request: Request[Any], url: httpx.URL, error: httpx.RequestError) -> Unreachable:
    """Returns the error for a request without a response."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    detail = f"{request.method} {request.path}: no response from {address(url)} ({reason})"
    problem = Problem(Unreachable.code, None, "The service did not respond", detail)
    return Unreachable(problem, sent=not isinstance(error, NOT_SENT))


def decode(request: Request[Response], response: httpx.Response) -> Response:
    """Returns the response document.

    Raises:
        RegistryError: the service returned an error, or a response that this client does not understand.
    """
    if response.is_error:
        raise error_of(_problem(response))
    if not response.is_success:
        target = response.headers.get("location", "another URL")
        raise _unexpected(response, f"{request.path} redirects to {target}; set the URL of the client to that server")
    try:
        return request.decode(response.content)
    except ValidationError as error:
        # The text of a ValidationError contains the values of the response, which may be biometric data.
        places = [".".join(str(part) for part in fault["loc"]) for fault in error.errors(include_input=False)]
        detail = f"{request.path}: the response lacks or differs in {', '.join(places[:5]) or 'its form'}; "
    except ValueError:
        detail = f"{request.path}: the response cannot be decoded; "
    raise _unexpected(response, detail + "check that the URL is that of a registry and that the versions match")


def _unexpected(response: httpx.Response, detail: str) -> RegistryError:
    title = "The response is not a document of this API"
    return UnexpectedResponse(Problem(UnexpectedResponse.code, response.status_code, title, detail))


def _problem(response: httpx.Response) -> Problem:
    """Returns the problem document of an error response. Another server, such as a proxy, may send a different one."""
    retry_after_s = _seconds(response.headers.get("retry-after"))
    try:
        document = response.json()
        return Problem(
            code=str(document["code"]),
            status=response.status_code,
            title=str(document.get("title", "")),
            detail=str(document["detail"]),
            pointer=document.get("pointer"),
            request_id=document.get("request_id"),
            retry_after_s=retry_after_s,
            extensions={name: value for name, value in document.items() if name not in MEMBERS},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        detail = f"HTTP {response.status_code} without a problem document; check which server answers at this URL"
        return Problem("http_error", response.status_code, response.reason_phrase, detail, retry_after_s=retry_after_s)


def _seconds(retry_after: str | None) -> float | None:
    """Returns the seconds of a Retry-After header (RFC 9110): a number or a date."""
    if retry_after is None:
        return None
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
