"""Operations that read pictures: register, verify, search, embed and predict."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from identity_registry.binding import operation
from identity_registry.inputs import (
    DEFAULT_COLLECTION,
    Box,
    Detector,
    Embedding,
    FaceChoice,
    Field,
    Picture,
    as_base64,
    as_pictures,
    without_none,
)
from identity_registry.requests import Body, Request
from identity_registry.responses.identification import SearchResponse
from identity_registry.responses.recognition import EmbedResponse, PredictResponse, RegisterResponse, VerifyResponse


class Recognition:
    @operation
    def register(
        self,
        label: str | None = None,
        pictures: Picture | Sequence[Picture] | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        external_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        embeddings: Sequence[Embedding] | None = None,
        model_id: str | None = None,
        face: FaceChoice | None = None,
        boxes: Sequence[Box] | None = None,
        detector: Detector | None = None,
        force: bool | None = None,
        retain_until: datetime | None = None,
        idempotency_key: str | None = None,
    ) -> Request[RegisterResponse]:
        """Enrols a person from pictures, or adds pictures to an enrolled person.

        Args:
            label: name to display; without `external_id` also the key of the person.
            external_id: your key of the person. The same key in a collection is the same person.
            embeddings: instead of pictures, computed with the model `model_id`.
            face: which face of each picture; the service's default is `only`.
            boxes: with `face="box"`, one box for each picture.
            force: enrol faces that fail the quality gate.
            retain_until: the service erases the identity after this time; with a time zone.
            idempotency_key: of this registration. The client creates one for each call if it is None, so that a
                repeated attempt stores nothing twice.
        """
        body = Body(
            without_none(
                label=label,
                external_id=external_id,
                metadata=metadata,
                embeddings=None if embeddings is None else [as_base64(embedding) for embedding in embeddings],
                model_id=model_id,
                face=face,
                boxes=boxes,
                detector=detector,
                force=force,
                retain_until=retain_until,
            ),
            [("images", picture) for picture in as_pictures(pictures)],
        )
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        query = {"collection": collection}
        return Request("POST", "/register", RegisterResponse.model_validate_json, query, body, headers=headers)

    @operation
    def verify(
        self,
        picture_a: Picture | None = None,
        picture_b: Picture | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        identity_id: uuid.UUID | str | None = None,
        external_id: str | None = None,
        embedding_a: Embedding | None = None,
        embedding_b: Embedding | None = None,
        model_id: str | None = None,
        fmr: float | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        face: FaceChoice | None = None,
        box_a: Box | None = None,
        box_b: Box | None = None,
        detector: Detector | None = None,
    ) -> Request[VerifyResponse]:
        """Compares a face with another face or with an enrolled identity. The service stores nothing.

        The other side is exactly one of `picture_b`, `embedding_b`, `identity_id` and `external_id`. At most one of
        `fmr`, `fpir` and `threshold` decides; without one, the default of the collection does.

        Args:
            fmr: false match rate that the decision may have.
            fpir: false positive identification rate that a search with this threshold may have.
            threshold: lowest cosine similarity that counts as a match.
        """
        pictures = [("image_a", picture_a), ("image_b", picture_b)]
        body = Body(
            without_none(
                identity_id=identity_id,
                external_id=external_id,
                embedding_a=as_base64(embedding_a),
                embedding_b=as_base64(embedding_b),
                model_id=model_id,
                fmr=fmr,
                fpir=fpir,
                threshold=threshold,
                face=face,
                box_a=box_a,
                box_b=box_b,
                detector=detector,
            ),
            [(name, picture) for name, picture in pictures if picture is not None],
        )
        return Request("POST", "/verify", VerifyResponse.model_validate_json, {"collection": collection}, body)

    @operation
    def search(
        self,
        pictures: Picture | Sequence[Picture] | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        embedding: Embedding | None = None,
        model_id: str | None = None,
        top_k: int | None = None,
        fmr: float | None = None,
        fpir: float | None = None,
        threshold: float | None = None,
        face: FaceChoice | None = None,
        box: Box | None = None,
        detector: Detector | None = None,
        metadata_filter: Mapping[str, Any] | None = None,
        fields: Sequence[Field] | None = None,
        explain: bool | None = None,
        force: bool | None = None,
        remember: bool | None = None,
    ) -> Request[SearchResponse]:
        """Searches for the enrolled identities that are most similar to a face.

        Args:
            pictures: one picture, or several pictures of one person, which become one probe.
            embedding: instead of pictures, computed with the model `model_id`.
            top_k: number of candidates; the service's default is 5.
            fmr, fpir, threshold: at most one of them decides, as for `verify`.
            face: which face of the picture; `all` searches for each face.
            metadata_filter: only identities whose metadata fulfils this condition, such as {"floor": {"$gte": 3}}.
            fields: `["label"]` omits the metadata of the candidates.
            explain: return the query plan of the database; the search takes twice the time.
            force: decide also if the quality of the face is below the limits.
            remember: store a face that matches no identity as an identity without a name. Otherwise nothing is stored.
        """
        probes = as_pictures(pictures)
        body = Body(
            without_none(
                embedding=as_base64(embedding),
                model_id=model_id,
                top_k=top_k,
                fmr=fmr,
                fpir=fpir,
                threshold=threshold,
                face=face,
                box=box,
                detector=detector,
                filter=metadata_filter,
                fields=None if fields is None else list(fields),
                explain=explain,
                force=force,
                remember=remember,
            ),
            [("image" if len(probes) == 1 else "images", picture) for picture in probes],
        )
        decode, query = SearchResponse.model_validate_json, {"collection": collection}
        return Request("POST", "/search", decode, query, body, repeatable=not remember)

    @operation
    def embed(
        self,
        picture: Picture,
        *,
        collection: str = DEFAULT_COLLECTION,
        model_id: str | None = None,
        face: FaceChoice | None = None,
        box: Box | None = None,
        detector: Detector | None = None,
    ) -> Request[EmbedResponse]:
        """Returns the embeddings of a picture's faces. An embedding is biometric data. The service stores nothing."""
        fields = without_none(model_id=model_id, face=face, box=box, detector=detector)
        body = Body(fields, [("image", picture)])
        return Request("POST", "/embed", EmbedResponse.model_validate_json, {"collection": collection}, body)

    @operation
    def predict(
        self,
        picture: Picture | None = None,
        *,
        collection: str = DEFAULT_COLLECTION,
        url: str | None = None,
        top_k: int | None = None,
        face: FaceChoice | None = None,
        box: Box | None = None,
        detector: Detector | None = None,
    ) -> Request[PredictResponse]:
        """Returns the most probable persons of the service's classifier for each face. The service stores nothing.

        The classifier always names one of its persons, also for a person
        who is none of them; `search` also reports that a person is not enrolled.

        Args:
            url: instead of a picture, its URL on a host that the service permits.
        """
        fields = without_none(url=url, top_k=top_k, face=face, box=box, detector=detector)
        body = Body(fields, [("image", item) for item in as_pictures(picture)])
        return Request("POST", "/predict", PredictResponse.model_validate_json, {"collection": collection}, body)
