"""Converts request documents to samples: pictures, or embeddings that the client supplies."""

from dataclasses import dataclass

from service.api.http.access import Access
from service.api.schemas.corrections import CorrectionRequest
from service.api.schemas.enrolment import RegisterRequest
from service.api.schemas.fields import BoxCorners
from service.api.schemas.identification import SearchRequest
from service.api.schemas.verification import VerifyRequest
from service.gallery.access.scopes import Scope
from service.inference.engine import Engine, Picture, Sample
from service.recognition.supplied_embeddings import supplied_embedding


@dataclass(frozen=True)
class Inputs:
    """Converts documents. Raises InvalidEmbedding, or NotAllowed if the key lacks the scope for embeddings."""

    engine: Engine
    access: Access

    def of_register(self, body: RegisterRequest) -> list[Sample]:
        if body.embeddings:
            pairs = enumerate(body.embeddings)
            return [self._supplied(data, body.model_id, f"/embeddings/{index}") for index, data in pairs]
        boxes: list[BoxCorners | None] = [*body.boxes] if body.boxes else [None] * len(body.images)
        return [
            Picture(data, body.face, box, cropped=body.detector == "none")
            for data, box in zip(body.images, boxes, strict=True)
        ]

    def of_search(self, body: SearchRequest) -> list[Sample]:
        if body.embedding is not None:
            return [self._supplied(body.embedding, body.model_id, "/embedding")]
        return [Picture(data, body.face, body.box, cropped=body.detector == "none") for data in body.pictures]

    def of_correction(self, body: CorrectionRequest) -> Sample:
        if body.image is None:
            return self._supplied(body.embedding or b"", body.model_id, "/embedding")
        return Picture(body.image, body.face, body.box, cropped=body.detector == "none")

    def of_verify(self, body: VerifyRequest) -> tuple[Sample, Sample | None]:
        """Returns both sides; the second one is None if it is an enrolled identity."""
        cropped = body.detector == "none"
        sides: list[Sample | None] = []
        for name, image, embedding, box in (
            ("a", body.image_a, body.embedding_a, body.box_a),
            ("b", body.image_b, body.embedding_b, body.box_b),
        ):
            if embedding is not None:
                sides.append(self._supplied(embedding, body.model_id, f"/embedding_{name}"))
            else:
                sides.append(None if image is None else Picture(image, body.face, box, cropped))
        assert sides[0] is not None
        return sides[0], sides[1]

    def _supplied(self, data: bytes, model_id: str | None, pointer: str) -> Sample:
        self.access.require_scope(Scope.EMBEDDINGS, pointer)
        return supplied_embedding(data, model_id, self.engine, pointer)
