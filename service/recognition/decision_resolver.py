"""Which operating point a request is decided by: its own, its collection's, or the service's."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import FmrNotCalibrated, ModelNotLoaded
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.search.search import Candidate
from service.gallery.search.sizes import GallerySizes
from service.gallery.storage.database import Database
from service.recognition.decision import Comparisons, Decision, DecisionPolicy, OperatingPoint


@dataclass(frozen=True)
class DecisionResolver:
    """The policies of the loaded models, the main one's first, and the sizes of the galleries that they decide in."""

    policies: Mapping[str, DecisionPolicy]
    sizes: GallerySizes
    duplicate_fpir: float = 0.01

    def policy_of(self, model_id: str) -> DecisionPolicy:
        """Raises ModelNotLoaded."""
        if (policy := self.policies.get(model_id)) is None:
            raise ModelNotLoaded(f"the service does not run model {model_id!r}; GET /models lists what it runs")
        return policy

    def require_resolvable(self, default: OperatingPoint | None, model_id: str) -> None:
        """A default that no gallery could have is refused when it is set. Raises FmrNotCalibrated, ModelNotLoaded."""
        if default is not None:
            self.policy_of(model_id).decide(default, Comparisons())

    async def for_pair(
        self, database: Database, collection_name: str, asked: OperatingPoint | None, model_id: str | None = None
    ) -> tuple[Decision, str]:
        """The decision for two pictures, and the model that it is for.

        A database is needed only where the answer is in it: for the collection's default, or for an FPIR, which means
        as strict as a search of the collection. Its model is the collection's then, else `model_id`, else the main one.

        Raises:
            CollectionNotFound, FmrNotCalibrated, ModelNotLoaded
        """
        if asked is not None and asked.kind != "fpir":
            model_id = model_id or next(iter(self.policies))
            return self.policy_of(model_id).decide(asked, None), model_id
        async with database.transaction() as connection:
            collection = await collections.get(connection, collection_name)
            return await self.for_gallery(connection, collection, asked), collection.model_id

    async def for_gallery(
        self, connection: AsyncConnection, collection: Collection, asked: OperatingPoint | None, pictures: int = 1
    ) -> Decision:
        """The decision for probes, each fused of so many pictures, that are compared with a gallery.

        Raises:
            FmrNotCalibrated, ModelNotLoaded
        """
        policy = self.policy_of(collection.model_id)
        size = await self.sizes.of(connection, collection.id, collection.model_id)
        comparisons = Comparisons(size.people, size.templates, pictures)
        default = OperatingPoint.one_of(collection.fmr, collection.fpir)
        if asked is not None or default is None:
            return policy.decide(asked, comparisons)
        try:
            return policy.decide(default, comparisons)
        except FmrNotCalibrated as error:
            raise FmrNotCalibrated(
                f"the default of collection {collection.name!r} can't be kept any more, and the request asks for "
                f"nothing else: {error.detail}. PATCH /collections/{collection.name} changes the default",
                **error.extensions,
            ) from None

    def require_duplicates_decidable(self, model_id: str) -> tuple[float, float]:
        """A rule about duplicates needs a calibration; the lowest and highest rate that was measured.

        Raises:
            FmrNotCalibrated, ModelNotLoaded
        """
        measured = self.policy_of(model_id).range
        if measured is None:
            raise FmrNotCalibrated(
                f"whether a newcomer is a duplicate is decided by an error rate, and model {model_id!r} has no "
                "calibration for the precision in use; set `duplicates` to `allow`",
                pointer="/duplicates",
            )
        return measured

    async def for_duplicates(self, connection: AsyncConnection, collection: Collection, pictures: int) -> Decision:
        """The decision whether a new person is another one: at the asked FPIR, or the strictest that was measured.

        Each of the newcomer's pictures is compared with everybody, and any match counts.

        Raises:
            FmrNotCalibrated: nothing was measured.
        """
        size = await self.sizes.of(connection, collection.id, collection.model_id)
        comparisons = Comparisons(size.people, size.templates, pictures)
        lowest, _ = self.require_duplicates_decidable(collection.model_id)
        policy = self.policy_of(collection.model_id)
        try:
            return policy.decide(OperatingPoint("fpir", self.duplicate_fpir), comparisons)
        except FmrNotCalibrated:
            strictest = policy.threshold_for("fmr", lowest)
            return policy.decide(OperatingPoint("threshold", strictest), comparisons)


def matches(decision: Decision, candidate: Candidate) -> bool:
    """Whether the decision accepts an enrolled person, whom no correction speaks against."""
    return decision.accepts(candidate.score, candidate.template_count) and not candidate.overruled
