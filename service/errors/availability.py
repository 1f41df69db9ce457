"""Errors that the service or its dependencies cause: HTTP 500, 503 and 507."""

from typing import ClassVar

from service.errors.base import RegistryError


class Unavailable(RegistryError):
    code, title, status = "unavailable", "The service is temporarily unavailable", 503
    retry_after_s: ClassVar[int] = 1


class ServerBusy(Unavailable):
    code, title, status = "server_busy", "The service is processing too many requests", 503


class EngineBusy(Unavailable):
    code, title, status = "engine_busy", "The inference queue is full", 503


class EngineUnavailable(Unavailable):
    code, title, status = "engine_unavailable", "No inference worker is available", 503
    retry_after_s = 2


class DatabaseUnavailable(Unavailable):
    code, title, status = "database_unavailable", "The database is unavailable", 503
    retry_after_s = 2


class StorageFull(RegistryError):
    code, title, status = "storage_full", "The service cannot store the upload", 507


class InternalError(RegistryError):
    code, title, status = "internal_error", "An internal error occurred", 500
