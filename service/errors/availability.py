"""The service cannot answer now: HTTP 500, 503 and 507."""

from typing import ClassVar

from service.errors.base import RegistryError


class Unavailable(RegistryError):
    code, title, status = "unavailable", "The service can't answer just now", 503
    retry_after_s: ClassVar[int] = 1


class EngineBusy(Unavailable):
    code, title, status = "engine_busy", "Too many pictures are waiting already", 503


class EngineUnavailable(Unavailable):
    code, title, status = "engine_unavailable", "No worker can look at pictures just now", 503
    retry_after_s = 2


class DatabaseUnavailable(Unavailable):
    code, title, status = "database_unavailable", "The database can't be reached", 503
    retry_after_s = 2


class StorageFull(RegistryError):
    code, title, status = "storage_full", "The service has no room for this", 507


class InternalError(RegistryError):
    code, title, status = "internal_error", "Something went wrong inside the service", 500
