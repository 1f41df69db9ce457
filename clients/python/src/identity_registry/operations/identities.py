"""Operations on enrolled identities, their templates and their corrections."""

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from identity_registry.binding import listing, operation
from identity_registry.inputs import (
    DEFAULT_COLLECTION,
    UNSET,
    Box,
    Detector,
    Embedding,
    FaceChoice,
    Field,
    Picture,
    Unset,
    as_base64,
    as_pictures,
    without_none,
    without_unset,
)
from identity_registry.requests import Body, Listing, Request, nothing, path_of
from identity_registry.responses.base import Page
from identity_registry.responses.identities import (
    Correction,
    ErasureResponse,
    Identity,
    MergedIdentity,
    SubjectData,
    Template,
    TemplateDeletion,
)

Id = uuid.UUID | str


class Identities:
    @listing
    def list_identities(
        self,
        *,
        collection: str = DEFAULT_COLLECTION,
        label: str | None = None,
        external_id: str | None = None,
        named: bool | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        fields: Field | None = None,
        page_size: int | None = None,
    ) -> Listing[Identity]:
        """Iterates over the identities of a collection in the order of their enrolment.

        Args:
            label, external_id: only identities with exactly this value.
            named: only identities with a name (True), or those of unknown people (False).
            metadata_filter: only identities whose metadata fulfils this condition, as for `search`.
            fields: `label` omits the metadata.
        """
        condition = None if metadata_filter is None else json.dumps(metadata_filter)
        query = without_none(
            collection=collection,
            label=label,
            external_id=external_id,
            named=named,
            filter=condition,
            fields=fields,
            limit=page_size,
        )
        return Listing(Request("GET", "/identities", Page[Identity].model_validate_json, query))

    @operation
    def read_identity(self, identity_id: Id, *, collection: str = DEFAULT_COLLECTION) -> Request[Identity]:
        """Returns an identity."""
        return Request("GET", _path(identity_id), Identity.model_validate_json, {"collection": collection})

    @operation
    def find_identity(self, external_id: str, *, collection: str = DEFAULT_COLLECTION) -> Request[Identity]:
        """Returns the identity with an external id. Raises NotFound."""
        path = path_of("identities", "external-ids", external_id)
        return Request("GET", path, Identity.model_validate_json, {"collection": collection})

    @operation
    def update_identity(
        self,
        identity_id: Id,
        *,
        collection: str = DEFAULT_COLLECTION,
        external_id: str | Unset = UNSET,
        label: str | Unset = UNSET,
        metadata: Mapping[str, Any] | Unset = UNSET,
        retain_until: datetime | Unset | None = UNSET,
    ) -> Request[Identity]:
        """Changes an identity. An absent argument leaves its value as it is.

        Args:
            external_id: name of an identity that has none.
            metadata: replaces all metadata of the identity.
            retain_until: the service erases the identity after this time; None removes the time.
        """
        changes = without_unset(external_id=external_id, label=label, metadata=metadata, retain_until=retain_until)
        body = Body(changes)
        return Request("PATCH", _path(identity_id), Identity.model_validate_json, {"collection": collection}, body)

    @operation
    def erase_identity(self, identity_id: Id, *, collection: str = DEFAULT_COLLECTION) -> Request[ErasureResponse]:
        """Deletes an identity with all its data. Returns a receipt from the audit trail."""
        decode, query = ErasureResponse.model_validate_json, {"collection": collection}
        return Request("DELETE", _path(identity_id), decode, query, repeatable=False)

    @operation
    def export_identity(self, identity_id: Id, *, collection: str = DEFAULT_COLLECTION) -> Request[SubjectData]:
        """Returns everything that the registry stores about an identity, including biometric data."""
        query = {"collection": collection}
        return Request("GET", _path(identity_id, "export"), SubjectData.model_validate_json, query)

    @listing
    def list_templates(
        self,
        identity_id: Id,
        *,
        collection: str = DEFAULT_COLLECTION,
        model_id: str | None = None,
        page_size: int | None = None,
    ) -> Listing[Template]:
        """Iterates over the templates of an identity. `model_id`: of another model than the collection's own."""
        query = without_none(collection=collection, model_id=model_id, limit=page_size)
        path = _path(identity_id, "templates")
        return Listing(Request("GET", path, Page[Template].model_validate_json, query))

    @operation
    def delete_template(
        self, identity_id: Id, template_id: Id, *, collection: str = DEFAULT_COLLECTION
    ) -> Request[TemplateDeletion]:
        """Deletes one template. An identity without templates remains, but no search returns it."""
        path, query = _path(identity_id, "templates", template_id), {"collection": collection}
        return Request("DELETE", path, TemplateDeletion.model_validate_json, query, repeatable=False)

    @operation
    def merge_identities(
        self, identity_id: Id, others: Sequence[Id], *, collection: str = DEFAULT_COLLECTION
    ) -> Request[MergedIdentity]:
        """Moves the templates of other identities to this one and deletes the other identities."""
        path, query = _path(identity_id, "merge"), {"collection": collection}
        body = Body({"identities": [str(other) for other in others]})
        return Request("POST", path, MergedIdentity.model_validate_json, query, body, repeatable=False)

    @operation
    def split_identity(
        self,
        identity_id: Id,
        template_ids: Sequence[Id],
        external_id: str,
        *,
        collection: str = DEFAULT_COLLECTION,
        label: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Request[Identity]:
        """Creates a new identity from some templates of this one. Returns the new identity."""
        templates = [str(template_id) for template_id in template_ids]
        body = Body(without_none(template_ids=templates, external_id=external_id, label=label, metadata=metadata))
        path, query = _path(identity_id, "split"), {"collection": collection}
        return Request("POST", path, Identity.model_validate_json, query, body, repeatable=False)

    @operation
    def move_identity(self, identity_id: Id, to: str, *, collection: str = DEFAULT_COLLECTION) -> Request[Identity]:
        """Moves an identity to the collection `to`, which must use the same model. The identity keeps its id."""
        path, query = _path(identity_id, "move"), {"collection": collection}
        return Request("POST", path, Identity.model_validate_json, query, Body({"to": to}), repeatable=False)

    @operation
    def create_correction(
        self,
        identity_id: Id,
        picture: Picture | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        embedding: Embedding | None = None,
        model_id: str | None = None,
        face: FaceChoice | None = None,
        box: Box | None = None,
        detector: Detector | None = None,
    ) -> Request[Correction]:
        """Records that a face is not the identity's. Later searches and verifications take it into account.

        Args:
            embedding: instead of a picture, computed with the model `model_id`.
        """
        fields = without_none(embedding=as_base64(embedding), model_id=model_id, face=face, box=box, detector=detector)
        body = Body(fields, [("image", item) for item in as_pictures(picture)], as_form=False)
        path, query = _path(identity_id, "corrections"), {"collection": collection}
        return Request("POST", path, Correction.model_validate_json, query, body, repeatable=False)

    @listing
    def list_corrections(
        self, identity_id: Id, *, collection: str = DEFAULT_COLLECTION, page_size: int | None = None
    ) -> Listing[Correction]:
        """Iterates over the corrections of an identity."""
        query = without_none(collection=collection, limit=page_size)
        return Listing(Request("GET", _path(identity_id, "corrections"), Page[Correction].model_validate_json, query))

    @operation
    def delete_correction(
        self, identity_id: Id, correction_id: Id, *, collection: str = DEFAULT_COLLECTION
    ) -> Request[None]:
        """Deletes a correction."""
        path, query = _path(identity_id, "corrections", correction_id), {"collection": collection}
        return Request("DELETE", path, nothing, query, repeatable=False)


def _path(identity_id: Id, *parts: Id) -> str:
    return path_of("identities", identity_id, *parts)
