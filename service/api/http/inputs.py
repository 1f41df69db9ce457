"""From the bodies to what the use cases take: pictures, or embeddings in their place."""

from dataclasses import dataclass

from service.api.http.access import Access
from service.api.schemas.all_schemas import BoxCorners, CorrectionRequest, RegisterRequest, SearchRequest, VerifyRequest
from service.gallery.access.scopes import Scope
from service.inference.engine import Engine, Picture
from service.recognition.observation import given


@dataclass(frozen=True)
class Inputs:
    """Checks embeddings against the engine's model and the caller's key. Raises EmbeddingRefused, NotAllowed."""

    engine: Engine
    access: Access

    def of_register(self, body: RegisterRequest) -> list[Picture]:
        if body.embeddings:
            named = enumerate(body.embeddings)
            return [self._given(data, body.model_id, f"/embeddings/{index}") for index, data in named]
        boxes: list[BoxCorners | None] = [*body.boxes] if body.boxes else [None] * len(body.images)
        return [
            Picture(data, body.face, box, cropped=body.detector == "none")
            for data, box in zip(body.images, boxes, strict=True)
        ]

    def of_search(self, body: SearchRequest) -> list[Picture]:
        if body.embedding is not None:
            return [self._given(body.embedding, body.model_id, "/embedding")]
        return [Picture(data, body.face, body.box, cropped=body.detector == "none") for data in body.pictures]

    def of_correction(self, body: CorrectionRequest) -> Picture:
        if body.image is None:
            return self._given(body.embedding or b"", body.model_id, "/embedding")
        return Picture(body.image, body.face, body.box, cropped=body.detector == "none")

    def of_verify(self, body: VerifyRequest) -> tuple[Picture, Picture | None]:
        """Both sides; None: the other one is enrolled."""
        cropped = body.detector == "none"
        sides: list[Picture | None] = []
        for name, image, embedding, box in (
            ("a", body.image_a, body.embedding_a, body.box_a),
            ("b", body.image_b, body.embedding_b, body.box_b),
        ):
            if embedding is not None:
                sides.append(self._given(embedding, body.model_id, f"/embedding_{name}"))
            else:
                sides.append(None if image is None else Picture(image, body.face, box, cropped))
        assert sides[0] is not None
        return sides[0], sides[1]

    def _given(self, data: bytes, model_id: str | None, pointer: str) -> Picture:
        self.access.require_scope(Scope.EMBEDDINGS, pointer)
        return given(data, model_id, self.engine, pointer)
