"""Composition of the studio: as an application of its own, and as a part of the API."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from service.api.http.middleware import LOCAL_NAMES, SameOrigin
from service.errors import StartupError
from service.runtime.settings import Settings

PREFIX = "/studio"
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104  an address to connect to, not to bind to


def create_studio(url: str, collection: str, api_key: str | None, is_local: bool) -> FastAPI:
    """Returns the studio for a registry.

    Args:
        api_key: key for users who enter none.
        is_local: the studio is reachable from this machine only; then it refuses other Host headers (DNS rebinding).

    Raises:
        StartupError: Gradio or another package of the extra `studio` is not installed, or the URL is not one.
    """
    try:
        from service.studio.app import StudioOptions, create_app
    except ImportError as error:
        raise StartupError(f"the studio needs: pip install ./clients/python '.[studio]' ({error})") from error
    try:
        app = create_app(StudioOptions(url, collection, api_key))
    except ValueError as error:
        raise StartupError(str(error)) from error
    app.add_middleware(SameOrigin, local_names=LOCAL_NAMES if is_local else None)
    return app


def mount(api: FastAPI, settings: Settings) -> ASGIApp:
    """Returns an application with the API at / and the studio at /studio.

    Middleware of the API, such as its limits of concurrent requests and time, does not apply to the studio, whose
    responses may be open for as long as a page is.
    """
    server = settings.server
    host = ANY_ADDRESS.get(server.host, f"[{server.host}]" if ":" in server.host else server.host)
    studio = create_studio(f"http://{host}:{server.port}", settings.studio.collection, None, server.on_loopback)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with api.router.lifespan_context(api), studio.router.lifespan_context(studio):
            yield

    routes = [Route("/", _redirect_to_studio), Mount(PREFIX, studio), Mount("/", api)]
    return Starlette(routes=routes, lifespan=lifespan)


def _redirect_to_studio(_: Request) -> RedirectResponse:
    return RedirectResponse(f"{PREFIX}/")
