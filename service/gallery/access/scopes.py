"""Scopes of API keys: the groups of operations that a key permits."""

from enum import StrEnum


class Scope(StrEnum):
    """A permission of an API key. A key has one or more scopes, and each operation requires at least one."""

    ENROL = "enrol"
    """Enrol identities (POST /register) and start, read and cancel bulk enrolments."""
    VERIFY = "verify"
    """Compare two faces, or a face with one identity (POST /verify)."""
    SEARCH = "search"
    """Search a collection (POST /search) and classify faces (POST /predict)."""
    MANAGE = "manage"
    """Read, change and delete identities and collections."""
    EMBEDDINGS = "embeddings"
    """Read embeddings (POST /embed, exports) and send embeddings instead of pictures."""
    AUDIT = "audit"
    """Read the audit trail."""
    METRICS = "metrics"
    """Read the metrics (GET /metrics)."""
