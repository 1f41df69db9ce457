"""Turns the definition of an operation into a method of both clients.

A definition is a method that returns a `Request` or a `Listing`. As an attribute of a synchronous client it becomes a
method that returns the response; as an attribute of an asynchronous client, a coroutine function. Type checkers and
editors see the parameters of the definition and the type of the response.
"""

import functools
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from identity_registry.async_transport import AsyncTransport
from identity_registry.requests import Listing, Request
from identity_registry.sync_transport import SyncTransport

Parameters = ParamSpec("Parameters")
Response = TypeVar("Response")
Item = TypeVar("Item")


class operation(Generic[Parameters, Response]):  # noqa: N801  a decorator
    """Decorates the definition of an operation with one response."""

    def __init__(self, definition: Callable[Concatenate[Any, Parameters], Request[Response]]) -> None:
        self.definition = definition
        self.__doc__ = definition.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: SyncTransport, owner: type) -> Callable[Parameters, Response]: ...
    @overload
    def __get__(self, client: AsyncTransport, owner: type) -> Callable[Parameters, Coroutine[Any, Any, Response]]: ...
    def __get__(self, client: SyncTransport | AsyncTransport | None, owner: type) -> Any:
        return self if client is None else _bound(self.definition, client, client._send)


class listing(Generic[Parameters, Item]):  # noqa: N801  a decorator
    """Decorates the definition of an operation that lists items; the method returns an iterator of all pages."""

    def __init__(self, definition: Callable[Concatenate[Any, Parameters], Listing[Item]]) -> None:
        self.definition = definition
        self.__doc__ = definition.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: SyncTransport, owner: type) -> Callable[Parameters, Iterator[Item]]: ...
    @overload
    def __get__(self, client: AsyncTransport, owner: type) -> Callable[Parameters, AsyncIterator[Item]]: ...
    def __get__(self, client: SyncTransport | AsyncTransport | None, owner: type) -> Any:
        return self if client is None else _bound(self.definition, client, client._pages)


def _bound(definition: Callable[..., Any], client: object, send: Callable[[Any], Any]) -> Callable[..., Any]:
    @functools.wraps(types.MethodType(definition, client))  # its signature has no `self`
    def method(*args: Any, **kwargs: Any) -> Any:
        return send(definition(client, *args, **kwargs))

    return method
