"""Paths below the path at which a proxy publishes the API (`server.root_path`)."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BelowPath:
    """Makes requests below a path reach the application, whether the proxy removes the path or leaves it.

    As ASGI requires, `path` then begins with `root_path`. The header Location of responses gets the path, too.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app, self._root_path = app, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_with_path(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                location = headers.get("location", "")
                if location.startswith("/") and not self._is_below(location):
                    headers["location"] = self._root_path + location
            await send(message)

        path = scope["path"]
        below = path if self._is_below(path) else self._root_path + path
        await self._app({**scope, "root_path": self._root_path, "path": below}, receive, send_with_path)

    def _is_below(self, path: str) -> bool:
        return path == self._root_path or path.startswith(f"{self._root_path}/")


def path_of(scope: Scope) -> str:
    """Returns the path of a request within the API."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"
