"""Documents of POST /embed and POST /predict."""

from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from service.api.schemas.faces import FaceView, embedding_text, observed_face_view
from service.api.schemas.fields import BoxCorners, FaceSelection, ImageBytes, LoadedModel, require_box
from service.inference.classifier import Classifier
from service.inference.engine import Observation


class EmbedRequest(FaceSelection):
    """Embeds the faces of a picture; nothing is stored."""

    image: ImageBytes
    box: BoxCorners | None = None
    model_id: LoadedModel | None = None

    @model_validator(mode="after")
    def _require_box(self) -> Self:
        require_box(self.face, self.box, "box")
        return self


class EmbeddedFaceView(BaseModel):
    face: FaceView
    embedding: str = Field(description="L2-normalised; little-endian float32 as Base64")


class EmbedResponse(BaseModel):
    model_id: str
    dim: int
    precision: str
    faces: list[EmbeddedFaceView]
    faces_detected: int


class PredictRequest(FaceSelection):
    """Classifies the faces of a picture among a closed set of people; nothing is stored."""

    image: ImageBytes | None = None
    url: Annotated[str, Field(max_length=2048)] | None = Field(
        None, description="instead of `image`: the picture's address, on a host that the operator allows"
    )
    box: BoxCorners | None = None
    top_k: int = Field(5, ge=1, le=100)

    @model_validator(mode="after")
    def _require_one_picture(self) -> Self:
        if (self.image is None) == (self.url is None):
            raise PydanticCustomError("one_picture", "send `image` or `url`")
        require_box(self.face, self.box, "box")
        return self


class GuessView(BaseModel):
    label: str
    probability: float = Field(description="0 to 1; the probabilities of all people of the classifier sum to 1")


class PredictedFaceView(BaseModel):
    face: FaceView
    guesses: list[GuessView] = Field(description="highest probability first")


class PredictResponse(BaseModel):
    classifier_id: str
    model_id: str
    people: int = Field(description="number of people of the classifier")
    faces: list[PredictedFaceView]
    faces_detected: int


def embed_response(observation: Observation, model_id: str, dim: int, precision: str) -> EmbedResponse:
    faces = [
        EmbeddedFaceView(face=observed_face_view(face), embedding=embedding_text(face.embedding))
        for face in observation.faces
    ]
    return EmbedResponse(
        model_id=model_id, dim=dim, precision=precision, faces=faces, faces_detected=len(observation.detections)
    )


def predict_response(observation: Observation, classifier: Classifier, top_k: int) -> PredictResponse:
    faces = [
        PredictedFaceView(
            face=observed_face_view(face),
            guesses=[
                GuessView(label=label, probability=probability)
                for label, probability in classifier.top(face.embedding, top_k)
            ],
        )
        for face in observation.faces
    ]
    manifest = classifier.manifest
    return PredictResponse(
        classifier_id=manifest.classifier_id,
        model_id=manifest.embedder,
        people=len(manifest.labels),
        faces=faces,
        faces_detected=len(observation.detections),
    )
