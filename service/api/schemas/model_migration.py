"""The documents about changing a collection's model."""

import uuid

from pydantic import BaseModel, Field

from service.api.schemas.all_schemas import Body, ModelId, example
from service.api.schemas.jobs import JobDetail
from service.gallery.people.model_migration import Coverage


class ModelMigrationRequest(Body):
    """Which model shall know the collection's people as well."""

    model_config = example(model_id="mobilefacenet-fairface-1")

    model_id: ModelId = Field(description="one of GET /models")
    activate: bool = Field(True, description="let it become the collection's own as soon as it knows everybody")


class ActivationRequest(Body):
    """Which model it shall be, and whether people may be lost by the change."""

    model_config = example(model_id="mobilefacenet-fairface-1")

    model_id: ModelId | None = Field(
        None, description="which is to be the collection's own afterwards; with it, sending again changes nothing"
    )
    force: bool = Field(False, description="also where people are lost by it, until they are enrolled again")


class CoverageView(BaseModel):
    people: int = Field(description="whom the collection's own model knows")
    missing: int = Field(description="of them, those whom the other one does not: they need new photos")
    partial: int = Field(description="those of whom the other one knows fewer pictures")
    corrections_missing: int = Field(description="corrections that the other one would not respect")


class ModelMigrationView(BaseModel):
    model_id: str = Field(description="the collection's own, by which it is searched")
    secondary_model_id: str | None = Field(description="embeds every new face as well; null: no other model")
    auto_activate: bool = Field(description="it becomes the collection's own as soon as it knows everybody")
    coverage: CoverageView | None
    index: str | None = Field(description="`ready`, `none`: built from `database.hnsw_min_identities` people on")
    job: JobDetail | None = Field(description="the last re-embedding by it")


class MissingPerson(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str


class MissingPeopleResponse(BaseModel):
    people: list[MissingPerson]
    next_cursor: str | None


class ModelMigrationDeletionResponse(BaseModel):
    model_id: str
    deleted: dict[str, int] = Field(description="rows by kind")


def coverage_view(coverage: Coverage) -> CoverageView:
    return CoverageView.model_validate(coverage, from_attributes=True)
