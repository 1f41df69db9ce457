"""Which operating point a request is decided by: its own, its collection's, or the service's."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery import collections
from service.gallery.collections import Collection
from service.gallery.database import Database
from service.gallery.size import GallerySizes
from service.recognition.decision import Comparisons, Decision, DecisionPolicy, OperatingPoint


@dataclass(frozen=True)
class Deciding:
    """The policy of the loaded model, and the sizes of the galleries that it decides in."""

    policy: DecisionPolicy
    sizes: GallerySizes

    def require_resolvable(self, default: OperatingPoint | None) -> None:
        """A default that no gallery could have is refused when it is set. Raises FmrNotCalibrated."""
        if default is not None:
            self.policy.decide(default, Comparisons())

    async def between_pictures(
        self, database: Database, collection_name: str | None, asked: OperatingPoint | None
    ) -> Decision:
        """The decision for two pictures.

        A database is needed only where the answer is in it: for the default of a named collection, or for an FPIR,
        which means as strict as a search of the collection.

        Raises:
            CollectionNotFound, FmrNotCalibrated
        """
        if (asked is None and collection_name is None) or (asked is not None and asked.kind != "fpir"):
            return self.policy.decide(asked, Comparisons())
        async with database.transaction() as connection:
            collection = await collections.get(connection, collection_name or collections.DEFAULT)
            return await self.in_gallery(connection, collection, asked)

    async def in_gallery(
        self, connection: AsyncConnection, collection: Collection, asked: OperatingPoint | None
    ) -> Decision:
        """The decision for probes that are compared with a gallery. Raises FmrNotCalibrated."""
        size = await self.sizes.of(connection, collection.id, collection.model_id)
        return self.policy.decide(asked or default_of(collection), Comparisons(size.people, size.templates))


def default_of(collection: Collection) -> OperatingPoint | None:
    """The collection's own default error rate, or None."""
    if collection.fmr is not None:
        return OperatingPoint("fmr", collection.fmr)
    if collection.fpir is not None:
        return OperatingPoint("fpir", collection.fpir)
    return None
