"""The log: lines for people, or one JSON document a line, each with the id of the request that it is about."""

import logging
import logging.config
from contextvars import ContextVar
from typing import Any, Literal

LogFormat = Literal["text", "json"]
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
access = logging.getLogger("registry.access")


class RequestIdFilter(logging.Filter):
    """Gives every record the id of the request in whose course it was written."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = getattr(record, "request_id", None) or REQUEST_ID.get()
        return True


def configuration(form: LogFormat) -> dict[str, Any]:
    """For `logging.config.dictConfig`, uvicorn's loggers included.

    Each request is one line, by its operation: uvicorn's own would hold the address, and with it names and ids.
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
    """For processes without uvicorn."""
    logging.config.dictConfig(configuration(form))
