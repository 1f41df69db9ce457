"""Places in lists that are read page by page."""

import uuid
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of making."""

    created_at: datetime
    id: uuid.UUID
