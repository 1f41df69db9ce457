"""Shortens the message of a failed start for the operator."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MARKER = "service.errors.base.StartupError: "


class StartupFailureMessage:
    """ASGI application that replaces the traceback of a StartupError with its message."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_message(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                _, marker, detail = message.get("message", "").rpartition(MARKER)
                message = {**message, "message": detail.strip()} if marker else message
            await send(message)

        await self._app(scope, receive, send_message)
