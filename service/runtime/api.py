"""Composition root of the API: routes, middleware, and the lifespan that opens and closes the long-lived parts."""

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from service.api.http.admission import Admission, AdmissionLimits
from service.api.http.client_address import ClientAddress
from service.api.http.middleware import LOCAL_NAMES, METHODS, BodyLimit, RequestId, RequestMetrics, SameOrigin
from service.api.http.open_access import OpenAccess
from service.api.http.paths import BelowPath
from service.api.http.problems import install_handlers
from service.api.http.query_parameters import refuse_unknown_parameters
from service.api.http.security_headers import SecurityHeaders
from service.api.openapi import install_openapi, operation_id
from service.api.routes import (
    audit,
    collections,
    compreface,
    corrections,
    embedding,
    enrolment,
    groups,
    health,
    identification,
    identities,
    jobs,
    merge_split_move,
    model_migration,
    models,
    prediction,
    verification,
    webhooks,
)
from service.runtime.jobs import run_jobs
from service.runtime.parts import open_state
from service.runtime.settings import Settings, load_settings
from service.runtime.startup import StartupFailureMessage
from service.runtime.tracing import Tracing

DISTRIBUTION = "identity-registry"
ROUTES = (
    enrolment,
    verification,
    identification,
    embedding,
    prediction,
    identities,
    merge_split_move,
    corrections,
    collections,
    groups,
    model_migration,
    jobs,
    webhooks,
    audit,
    models,
    health,
)


CORS: dict[str, Any] = {
    "allow_methods": sorted(METHODS),
    "allow_headers": ["Authorization", "Content-Type", "Idempotency-Key", "X-API-Key", "X-Request-Id"],
    "expose_headers": ["Location", "Retry-After", "X-Request-Id"],
}
"""What pages of `server.cors_origins` may send and read. They send keys in headers, so cookies are not allowed."""


def create_app(settings: Settings) -> FastAPI:
    """Returns the application. Its lifespan opens the database and loads the models."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            state = await stack.enter_async_context(open_state(settings))
            if settings.jobs.in_api:
                state.background.start(run_jobs(settings, state), "job runner")
            stack.enter_context(tracing.of(state.database, state.owner))
            app.state.registry = state
            yield

    app = FastAPIOffline(  # serves the scripts of /docs itself
        title="Identity registry",
        summary="Enrols people from pictures, verifies them and searches for them.",
        version=version(DISTRIBUTION),
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
    )
    tracing = Tracing(app, settings.server.otlp_endpoint)
    for module in ROUTES:
        # Probes and scrapers may add their own parameters.
        checks = [] if module is health else [Depends(refuse_unknown_parameters)]
        app.include_router(module.router, dependencies=checks)
    if settings.server.compreface_api:
        app.include_router(compreface.router)
    app.add_api_route("/", _redirect_to_documentation, include_in_schema=False)
    install_handlers(app)
    install_openapi(app)
    _add_middleware(app, settings)
    return app


def from_environment() -> ASGIApp:
    """Returns the application that uvicorn runs in each process."""
    settings = load_settings()
    app = create_app(settings)
    if settings.studio.mounted:
        from service.runtime.studio import mount  # loads Gradio

        return _published(mount(app, settings), settings)
    return _published(app, settings)


def _published(app: ASGIApp, settings: Settings) -> ASGIApp:
    root_path = settings.server.root_path
    return StartupFailureMessage(BelowPath(app, root_path) if root_path else app)


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    limits, server = settings.limits, settings.server
    admitted = AdmissionLimits(
        limits.max_concurrent_requests, limits.max_bytes_in_flight, limits.body_timeout_s, limits.idle_timeout_s
    )
    # The middleware that is added last sees a request first.
    app.add_middleware(Admission, limits=admitted)
    sizes = {"max_bytes": limits.max_body_bytes, "max_json_bytes": limits.max_json_bytes}
    app.add_middleware(BodyLimit, **sizes, max_archive_bytes=limits.max_archive_bytes)
    origins = frozenset(server.cors_origins)
    if not server.keys_required:
        app.add_middleware(OpenAccess, behind_proxy=server.allow_unauthenticated, allowed_origins=origins)
    # Without keys every page in a local browser could use the service; then the Host header is checked as well.
    is_open = server.on_loopback and not server.keys_required
    app.add_middleware(SameOrigin, local_names=LOCAL_NAMES if is_open else None, allowed_origins=origins)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=origins, **CORS)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestId)
    app.add_middleware(RequestMetrics)
    proxies, header = server.trusted_proxies, server.forwarded_header
    app.add_middleware(ClientAddress, proxies=proxies, header=header, recorded=settings.audit.client_addresses)


def _redirect_to_documentation() -> RedirectResponse:
    return RedirectResponse("/docs")
