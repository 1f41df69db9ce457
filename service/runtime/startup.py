"""What an operator sees when the service can't start."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class StartupFailureMessage:
    """Shows an operator why the service can't start, in words instead of a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_plainly(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                _, found, words = message.get("message", "").rpartition("service.errors.base.StartupError: ")
                message = {**message, "message": words.strip()} if found else message
            await send(message)

        await self._app(scope, receive, send_plainly)
