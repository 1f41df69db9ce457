"""OpenTelemetry traces of requests and SQL statements, if an endpoint is configured."""

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
EXCLUDED_PATHS = "healthz,readyz,metrics"


class Tracing:
    """Sends spans to an OTLP endpoint over HTTP; does nothing without one.

    The application is instrumented before its middleware is built. Spans of statements omit the parameters, which
    contain embeddings and names.

    Raises:
        StartupError: the extra `tracing` is not installed.
    """

    def __init__(self, app: FastAPI, endpoint: str | None) -> None:
        self._provider = None if endpoint is None else _provider(endpoint)
        if self._provider is not None:
            from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

            FastAPIInstrumentor.instrument_app(
                app, tracer_provider=self._provider, excluded_urls=EXCLUDED_PATHS, server_request_hook=_without_query
            )

    @contextlib.contextmanager
    def of(self, *databases: Database) -> Iterator[None]:
        """Traces statements while the block runs, and sends the remaining spans at its end."""
        if self._provider is None:
            yield
            return
        from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor

        statements = SQLAlchemyInstrumentor()
        engines = [database.engine.sync_engine for database in databases]
        # The instrumentation declares support up to SQLAlchemy 2.0; 2.1 has the same events.
        statements.instrument(engines=engines, tracer_provider=self._provider, skip_dep_check=True)
        try:
            yield
        finally:
            statements.uninstrument()
            self._provider.shutdown()


def _without_query(span: "Span", scope: dict[str, Any]) -> None:
    """Removes queries from spans, because they contain names and ids of people."""
    for name in ("http.url", "http.target", "url.full", "url.query"):
        span.set_attribute(name, "" if name == "url.query" else scope["path"])


def _provider(endpoint: str) -> "TracerProvider":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise StartupError(
            f"The packages that send traces are not installed ({error}). Run `pip install '.[tracing]'` in the "
            "repository."
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE_NAME}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    return provider
