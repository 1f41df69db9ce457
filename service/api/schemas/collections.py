"""Documents of collections."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from service.api.schemas.fields import CollectionName, LoadedModel, RateSelection
from service.gallery.people.collections import Collection
from service.recognition.policies import AdditionPolicy, DuplicatePolicy, QualityMode

QUALITY = "quality that enrolled faces must have: `off`: any; `standard`: the service's settings; `strict`: portraits"
DUPLICATES = (
    "reaction to a new identity that looks like another one: `allow`: no search; `warn`: the response lists the "
    "candidates; `reject`: the identity is not enrolled"
)
ADDITIONS = (
    "pictures that a key without the scope `manage` may add to an existing identity: `match`: those that match it at "
    "the collection's FMR, or at the service's; `any`: all"
)
STORE_CROPS = "store encrypted, aligned crops of the faces, which a model migration embeds with another model"


class CollectionCreateRequest(RateSelection):
    """Creates a collection. `fmr` or `fpir` is its default for requests without a rate."""

    name: CollectionName
    quality: QualityMode = Field(QualityMode.STANDARD, description=QUALITY)
    duplicates: DuplicatePolicy = Field(DuplicatePolicy.ALLOW, description=DUPLICATES)
    additions: AdditionPolicy = Field(AdditionPolicy.MATCH, description=ADDITIONS)
    store_crops: bool = Field(False, description=STORE_CROPS)
    model_id: LoadedModel | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """The columns of the new row."""
        return self.model_dump(mode="json", exclude={"name", "model_id"})


class CollectionUpdateRequest(RateSelection):
    """Changes a collection. An absent field keeps its value; a rate of null restores the service's default."""

    quality: QualityMode | None = Field(None, description=QUALITY)
    duplicates: DuplicatePolicy | None = Field(None, description=DUPLICATES)
    additions: AdditionPolicy | None = Field(None, description=ADDITIONS)
    store_crops: bool | None = Field(None, description=STORE_CROPS + "; false deletes the stored crops")

    @property
    def settings(self) -> dict[str, Any]:
        """The columns to set."""
        chosen = {name: getattr(self, name) for name in ("quality", "duplicates", "additions")}
        changes: dict[str, Any] = {name: value.value for name, value in chosen.items() if value is not None}
        if self.store_crops is not None:
            changes["store_crops"] = self.store_crops
        if self.model_fields_set & {"fmr", "fpir"}:  # a collection has at most one default rate
            changes |= {"fmr": self.fmr, "fpir": self.fpir}
        return changes


class CollectionView(BaseModel):
    name: str
    model_id: str
    fmr: float | None = Field(description="default false match rate")
    fpir: float | None = Field(description="default false positive identification rate")
    quality: QualityMode = Field(description=QUALITY)
    duplicates: DuplicatePolicy = Field(description=DUPLICATES)
    additions: AdditionPolicy = Field(description=ADDITIONS)
    store_crops: bool = Field(description=STORE_CROPS)
    secondary_model_id: str | None = Field(description="model that embeds every new face as well; null: none")
    identity_count: int
    created_at: datetime


class CollectionsResponse(BaseModel):
    collections: list[CollectionView]
    next_cursor: str | None


class CollectionDeletionResponse(BaseModel):
    name: str
    identities_deleted: int
    identities_remaining: int = Field(description="identities that the service deletes in the background")


def collection_view(collection: Collection, identities: int) -> CollectionView:
    return CollectionView(
        name=collection.name,
        model_id=collection.model_id,
        fmr=collection.fmr,
        fpir=collection.fpir,
        quality=QualityMode(collection.quality),
        duplicates=DuplicatePolicy(collection.duplicates),
        additions=AdditionPolicy(collection.additions),
        store_crops=collection.store_crops,
        secondary_model_id=collection.secondary_model_id,
        identity_count=identities,
        created_at=collection.created_at,
    )
