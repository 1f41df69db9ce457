"""Configures logging: plain text or one JSON document per line, with the id of the request."""

import logging
import logging.config
from contextvars import ContextVar
from typing import Any, Literal

LogFormat = Literal["text", "json"]
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that is being processed."""
access = logging.getLogger("registry.access")


class RequestIdFilter(logging.Filter):
    """Adds the id of the current request to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = getattr(record, "request_id", None) or REQUEST_ID.get()
        return True


def configuration(form: LogFormat) -> dict[str, Any]:
    """Returns a configuration for `logging.config.dictConfig` that includes uvicorn's loggers.

    uvicorn's access log is off, because it contains URLs with names and ids of people. The logger `registry.access`
    writes one line per request with the name of the operation instead.
    """
    json = {
        "()": "pythonjsonlogger.json.JsonFormatter",
        "fmt": "%(asctime)s %(levelname)s %(name)s %(request_id)s %(message)s",
        "rename_fields": {"asctime": "at", "levelname": "level", "name": "logger"},
        "datefmt": "%Y-%m-%dT%H:%M:%S%z",
    }
    text = {"format": "%(levelname)s:  %(message)s"}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request": {"()": RequestIdFilter}},
        "formatters": {"chosen": json if form == "json" else text},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen", "filters": ["request"]}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "registry.access": {"level": "INFO"},
            "uvicorn": {"level": "INFO"},
            "uvicorn.access": {"level": "WARNING"},
        },
    }


def configure(form: LogFormat) -> None:
    """Configures logging in processes that do not run uvicorn."""
    logging.config.dictConfig(configuration(form))
