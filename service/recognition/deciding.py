"""Which operating point a request is decided by: its own, its collection's, or the service's."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import FmrNotCalibrated
from service.gallery import collections
from service.gallery.collections import Collection
from service.gallery.database import Database
from service.gallery.search import Candidate
from service.gallery.size import GallerySizes
from service.recognition.decision import Comparisons, Decision, DecisionPolicy, OperatingPoint


@dataclass(frozen=True)
class Deciding:
    """The policy of the loaded model, and the sizes of the galleries that it decides in."""

    policy: DecisionPolicy
    sizes: GallerySizes
    duplicate_fpir: float = 0.01

    def require_resolvable(self, default: OperatingPoint | None) -> None:
        """A default that no gallery could have is refused when it is set. Raises FmrNotCalibrated."""
        if default is not None:
            self.policy.decide(default, Comparisons())

    async def between_pictures(
        self, database: Database, collection_name: str, asked: OperatingPoint | None
    ) -> Decision:
        """The decision for two pictures.

        A database is needed only where the answer is in it: for the collection's default, or for an FPIR, which means
        as strict as a search of the collection.

        Raises:
            CollectionNotFound, FmrNotCalibrated
        """
        if asked is not None and asked.kind != "fpir":
            return self.policy.decide(asked, None)
        async with database.transaction() as connection:
            collection = await collections.get(connection, collection_name)
            return await self.in_gallery(connection, collection, asked)

    async def in_gallery(
        self, connection: AsyncConnection, collection: Collection, asked: OperatingPoint | None, pictures: int = 1
    ) -> Decision:
        """The decision for probes, each fused of so many pictures, that are compared with a gallery.

        Raises:
            FmrNotCalibrated
        """
        size = await self.sizes.of(connection, collection.id, collection.model_id)
        comparisons = Comparisons(size.people, size.templates, pictures)
        default = OperatingPoint.one_of(collection.fmr, collection.fpir)
        if asked is not None or default is None:
            return self.policy.decide(asked, comparisons)
        try:
            return self.policy.decide(default, comparisons)
        except FmrNotCalibrated as error:
            raise FmrNotCalibrated(
                f"the default of collection {collection.name!r} can't be kept any more, and the request asks for "
                f"nothing else: {error.detail}. PATCH /collections/{collection.name} changes the default",
                **error.extensions,
            ) from None

    def require_duplicates_decidable(self) -> None:
        """A rule about duplicates needs a calibration. Raises FmrNotCalibrated."""
        if self.policy.range is None:
            raise FmrNotCalibrated(
                "whether a newcomer is a duplicate is decided by an error rate, and the loaded model has no "
                "calibration for the precision in use; set `duplicates` to `allow`",
                pointer="/duplicates",
            )

    async def for_duplicates(self, connection: AsyncConnection, collection: Collection, pictures: int) -> Decision:
        """The decision whether a new person is another one: at the asked FPIR, or the strictest that was measured.

        Each of the newcomer's pictures is compared with everybody, and any match counts.

        Raises:
            FmrNotCalibrated: nothing was measured.
        """
        size = await self.sizes.of(connection, collection.id, collection.model_id)
        comparisons = Comparisons(size.people, size.templates, pictures)
        self.require_duplicates_decidable()
        assert self.policy.range is not None
        try:
            return self.policy.decide(OperatingPoint("fpir", self.duplicate_fpir), comparisons)
        except FmrNotCalibrated:
            strictest = self.policy.threshold_for("fmr", self.policy.range[0])
            return self.policy.decide(OperatingPoint("threshold", strictest), comparisons)


def matches(decision: Decision, candidate: Candidate) -> bool:
    """Whether the decision accepts an enrolled person, whom no correction speaks against."""
    return decision.accepts(candidate.score, candidate.template_count) and not candidate.overruled
