"""Documents of model migrations."""

import uuid

from pydantic import BaseModel, Field

from service.api.schemas.fields import Body, ModelId
from service.api.schemas.jobs import JobDetail, job_detail
from service.jobs.model_migration import MigrationState


class ModelMigrationRequest(Body):
    """Starts a model migration."""

    model_id: ModelId = Field(description="the secondary model, one of GET /models")
    auto_activate: bool = Field(True, description="activate the model as soon as it has embedded every identity")


class ActivationRequest(Body):
    """Exchanges active and secondary model."""

    model_id: ModelId | None = Field(
        None, description="the model to activate; if it is active already, the request changes nothing"
    )
    force: bool = Field(False, description="activate although searches will not return the missing identities")


class CoverageView(BaseModel):
    identities: int = Field(description="identities with a template of the active model")
    missing: int = Field(description="of them, those without a template of the secondary model; they need new photos")
    partial: int = Field(description="of them, those with fewer templates of the secondary model")
    corrections_missing: int = Field(description="corrections without an embedding of the secondary model")


class ModelMigrationView(BaseModel):
    model_id: str = Field(description="the active model, by which the collection is searched")
    secondary_model_id: str | None = Field(description="the model that embeds every new face as well; null: none")
    auto_activate: bool = Field(description="the secondary model is activated as soon as nothing is missing")
    coverage: CoverageView | None
    job: JobDetail | None = Field(description="the last re-embedding job of the secondary model")


class MissingIdentity(BaseModel):
    identity_id: uuid.UUID
    external_id: str
    label: str


class MissingIdentitiesResponse(BaseModel):
    identities: list[MissingIdentity]
    next_cursor: str | None


class ModelMigrationDeletionResponse(BaseModel):
    model_id: str
    deleted: dict[str, int] = Field(description="number of deleted rows by kind")


def migration_view(state: MigrationState) -> ModelMigrationView:
    coverage = state.coverage
    return ModelMigrationView(
        model_id=state.collection.model_id,
        secondary_model_id=state.collection.secondary_model_id,
        auto_activate=state.collection.auto_activate,
        coverage=None if coverage is None else CoverageView.model_validate(coverage, from_attributes=True),
        job=None if state.job is None else job_detail(*state.job),
    )
