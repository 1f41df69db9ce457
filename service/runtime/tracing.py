"""OpenTelemetry traces of requests and SQL statements, where an address to send them to is configured."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from service.errors import StartupError
from service.gallery.storage.database import Database

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

SERVICE_NAME = "identity-registry"
UNTOLD = "healthz,readyz,metrics"


class Tracing:
    """Sends spans to an OTLP endpoint (HTTP); does nothing without one.

    The application is instrumented when it is made, before its middleware is put together. Statements are told without
    their parameters, which hold embeddings and names.

    Raises:
        StartupError: the extra `tracing` is not installed.
    """

    def __init__(self, app: FastAPI, endpoint: str | None) -> None:
        self._provider = None if endpoint is None else _provider(endpoint)
        if self._provider is not None:
            from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

            FastAPIInstrumentor.instrument_app(
                app, tracer_provider=self._provider, excluded_urls=UNTOLD, server_request_hook=_without_query
            )

    @contextlib.contextmanager
    def of(self, *databases: Database) -> Iterator[None]:
        """Traces statements while the block runs, and sends what is left at its end."""
        if self._provider is None:
            yield
            return
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

        statements = SQLAlchemyInstrumentor()
        engines = [database.engine.sync_engine for database in databases]
        # Its check knows SQLAlchemy up to 2.0; the events that it listens to are the same in 2.1.
        statements.instrument(engines=engines, tracer_provider=self._provider, skip_dep_check=True)
        try:
            yield
        finally:
            statements.uninstrument()
            self._provider.shutdown()


def _without_query(span: "Span", scope: dict[str, Any]) -> None:
    """Queries hold people's names and ids."""
    for name in ("http.url", "http.target", "url.full", "url.query"):
        span.set_attribute(name, "" if name == "url.query" else scope["path"])


def _provider(endpoint: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise StartupError(f"Traces can't be sent ({error}): `pip install 'identity-registry[tracing]'`") from None
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE_NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    return provider
