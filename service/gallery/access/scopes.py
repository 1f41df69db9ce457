"""What an API key may do."""

from enum import StrEnum


class Scope(StrEnum):
    ENROL = "enrol"
    VERIFY = "verify"
    SEARCH = "search"
    MANAGE = "manage"
    """Read, change and delete identities and collections."""
    EMBEDDINGS = "embeddings"
    """Get embeddings, and send them in the place of pictures."""
    AUDIT = "audit"
    """Read the audit trail."""
    METRICS = "metrics"
