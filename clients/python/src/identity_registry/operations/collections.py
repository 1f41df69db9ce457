"""Operations on collections and model migrations."""

from typing import Literal

from identity_registry.binding import listing, operation
from identity_registry.inputs import UNSET, Unset, without_none, without_unset
from identity_registry.requests import Body, Listing, Request, path_of
from identity_registry.responses.base import Page
from identity_registry.responses.collections import (
    Collection,
    CollectionDeletion,
    GalleryReport,
    MissingIdentity,
    ModelMigration,
    ModelMigrationDeletion,
)
from identity_registry.responses.jobs import Job

Quality = Literal["off", "standard", "strict"]
Duplicates = Literal["allow", "warn", "reject"]
Additions = Literal["match", "any"]


class Collections:
    @listing
    def list_collections(self, *, prefix: str | None = None, page_size: int | None = None) -> Listing[Collection]:
        """Iterates over the collections by name. `prefix`: only names that start with it."""
        query = without_none(prefix=prefix, limit=page_size)
        return Listing(Request("GET", "/collections", Page[Collection].model_validate_json, query))

    @operation
    def read_collection(self, name: str) -> Request[Collection]:
        """Returns a collection."""
        return Request("GET", path_of("collections", name), Collection.model_validate_json)

    @operation
    def read_gallery_report(self, name: str, *, threshold: float | None = None) -> Request[GalleryReport]:
        """Compares the templates of a collection with each other.

        The report lists people who may be enrolled twice, and templates that may belong to another identity.

        Args:
            threshold: in place of the threshold of the collection's default rate.
        """
        path, query = path_of("collections", name, "report"), without_none(threshold=threshold)
        return Request("GET", path, GalleryReport.model_validate_json, query)

    @operation
    def create_collection(
        self,
        name: str,
        *,
        fmr: float | None = None,
        fpir: float | None = None,
        quality: Quality | None = None,
        duplicates: Duplicates | None = None,
        additions: Additions | None = None,
        store_crops: bool | None = None,
        model_id: str | None = None,
    ) -> Request[Collection]:
        """Creates a collection.

        Args:
            fmr, fpir: at most one of them; default rate of requests that name none.
            quality: quality gate of registrations.
            duplicates: what the service does if a new identity matches an enrolled one.
            additions: pictures that keys without the scope `manage` may add: those that match the identity, or any.
            store_crops: store encrypted crops, so that another model can embed them later.
            model_id: one of the loaded models; the service's default is its first model.
        """
        fields = without_none(
            name=name,
            fmr=fmr,
            fpir=fpir,
            quality=quality,
            duplicates=duplicates,
            additions=additions,
            store_crops=store_crops,
            model_id=model_id,
        )
        return Request("POST", "/collections", Collection.model_validate_json, body=Body(fields), repeatable=False)

    @operation
    def update_collection(
        self,
        name: str,
        *,
        fmr: float | Unset | None = UNSET,
        fpir: float | Unset | None = UNSET,
        quality: Quality | Unset = UNSET,
        duplicates: Duplicates | Unset = UNSET,
        additions: Additions | Unset = UNSET,
        store_crops: bool | Unset = UNSET,
    ) -> Request[Collection]:
        """Changes the rules of a collection. An absent argument leaves its value as it is.

        Args:
            fmr, fpir: at most one of them; None removes the rate, and the default of the service applies.
            store_crops: False also deletes the stored crops.
        """
        rules = {"quality": quality, "duplicates": duplicates, "additions": additions, "store_crops": store_crops}
        body = Body(without_unset(fmr=fmr, fpir=fpir, **rules))
        return Request("PATCH", path_of("collections", name), Collection.model_validate_json, body=body)

    @operation
    def delete_collection(self, name: str) -> Request[CollectionDeletion]:
        """Deletes a collection with all its identities; the service deletes many in the background.

        Its audit trail remains.
        """
        path = path_of("collections", name)
        return Request("DELETE", path, CollectionDeletion.model_validate_json, repeatable=False)


class ModelMigrations:
    @operation
    def read_model_migration(self, name: str) -> Request[ModelMigration]:
        """Returns the state of a collection's model migration and the coverage of the secondary model."""
        return Request("GET", _path(name), ModelMigration.model_validate_json)

    @operation
    def start_model_migration(self, name: str, model_id: str, *, auto_activate: bool | None = None) -> Request[Job]:
        """Starts to embed the identities of a collection with another model. Returns the job.

        Args:
            auto_activate: activate the model as soon as it covers every identity; the service's default is True.
        """
        body = Body(without_none(model_id=model_id, auto_activate=auto_activate))
        return Request("POST", _path(name), Job.model_validate_json, body=body, repeatable=False)

    @listing
    def list_missing_identities(self, name: str, *, page_size: int | None = None) -> Listing[MissingIdentity]:
        """Iterates over the identities that need new pictures before the secondary model covers them."""
        query = without_none(limit=page_size)
        return Listing(Request("GET", _path(name, "missing"), Page[MissingIdentity].model_validate_json, query))

    @operation
    def activate_model(self, name: str, model_id: str, *, force: bool | None = None) -> Request[ModelMigration]:
        """Activates the secondary model; the model that was active before becomes the secondary model.

        Args:
            force: also if the model does not cover every identity.
        """
        body = Body(without_none(model_id=model_id, force=force))
        return Request("POST", _path(name, "activate"), ModelMigration.model_validate_json, body=body)

    @operation
    def delete_secondary_model(
        self, name: str, model_id: str, *, force: bool | None = None
    ) -> Request[ModelMigrationDeletion]:
        """Ends the model migration and deletes all templates of the secondary model.

        Args:
            model_id: the secondary model; the service refuses the request if it is another one.
            force: also if only this model covers some identities.
        """
        query = without_none(model_id=model_id, force=force)
        decode = ModelMigrationDeletion.model_validate_json
        return Request("DELETE", _path(name), decode, query, repeatable=False)


def _path(name: str, *parts: str) -> str:
    return path_of("collections", name, "model-migration", *parts)
