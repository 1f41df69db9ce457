"""From the use cases' results to the API's documents."""

import base64
import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.api.schemas.all_schemas import (
    CandidateView,
    CorrectionView,
    DeletionResponse,
    EmbedResponse,
    EmbeddedFaceView,
    ExplanationView,
    FaceMatchesView,
    FaceView,
    GuessView,
    SubjectDataResponse,
    IdentityView,
    ImageOutcomeView,
    DuplicateCandidateView,
    PredictResponse,
    PredictedFaceView,
    ReceiptView,
    RegisterResponse,
    SearchResponse,
    StoredCrop,
    StoredEmbedding,
    VerifyResponse,
)
from service.api.schemas.audit import entry_view
from service.errors import CropUnreadable
from service.gallery.people.crops import CropCipher
from service.gallery.people.erasure import Receipt
from service.gallery.people.identities import Identity
from service.gallery.people.subject_data import SubjectData
from service.gallery.search.search import Found
from service.inference.bundle import Interval
from service.inference.classifier import Classifier
from service.inference.engine import Detection, Face, Observation
from service.recognition.decision import Rate
from service.recognition.decision_resolver import matches
from service.recognition.enrolment import Enrolment, ImageOutcome
from service.recognition.identification import Identification
from service.recognition.verification import Verification


def detection_view(detection: Detection, quality: float | None = None) -> FaceView:
    landmarks = detection.landmarks
    return FaceView(
        box=tuple(round(value, 1) for value in detection.box),
        detection_score=round(detection.score, 4),
        landmarks=None if landmarks is None else [(round(float(x), 1), round(float(y), 1)) for x, y, _ in landmarks],
        quality=quality,
    )


def face_view(face: Face) -> FaceView | None:
    """None: the caller gave an embedding, and no face was seen."""
    return None if face.given else seen_face(face)


def seen_face(face: Face) -> FaceView:
    score = face.quality.score
    return detection_view(face.detection, None if score is None else round(score, 4))


def identity_view(identity: Identity) -> IdentityView:
    return IdentityView.model_validate(identity, from_attributes=True)


def outcome_view(outcome: ImageOutcome, named: bool) -> ImageOutcomeView:
    error = outcome.error
    told: dict[str, Any] = {} if error is None else {"code": error.code, "detail": error.detail, **error.extensions}
    seen = [{**face, "landmarks": None} for face in told.pop("faces", [])]
    return ImageOutcomeView(
        status=outcome.status,
        template_id=outcome.template_id,
        face=None if outcome.face is None else face_view(outcome.face),
        code=told.get("code"),
        detail=told.get("detail"),
        reasons=told.get("reasons") or list(outcome.overridden) or None,
        faces=[FaceView.model_validate(face) for face in seen] or None,
        agreement=None if outcome.agreement is None or not named else round(outcome.agreement, 6),
        outlier=outcome.outlier and named,
    )


def register_answer(enrolment: Enrolment, collection: str, named: bool) -> RegisterResponse:
    """`named`: whether the caller learns who looks alike, or only how many, and how like the person a picture is."""
    identity = enrolment.identity
    return RegisterResponse(
        identity_id=identity.id,
        external_id=identity.external_id,
        label=identity.label,
        collection=collection,
        created=enrolment.created,
        template_count=identity.template_count,
        images=[outcome_view(outcome, named) for outcome in enrolment.images],
        duplicate_candidates=[
            DuplicateCandidateView(
                identity_id=candidate.id,
                external_id=candidate.external_id,
                label=candidate.label,
                score=round(candidate.score, 6),
            )
            for candidate in (enrolment.duplicate_candidates if named else [])
        ],
        duplicate_candidate_count=len(enrolment.duplicate_candidates),
    )


def verify_answer(verification: Verification, precision: str) -> VerifyResponse:
    model_id = verification.model_id
    return VerifyResponse(
        match=verification.match,
        score=round(verification.score, 6),
        corrected=verification.corrected,
        face_a=face_view(verification.face_a),
        face_b=None if verification.face_b is None else face_view(verification.face_b),
        identity=None if verification.identity is None else identity_view(verification.identity),
        **_decision(verification.threshold, verification.fmr, verification.decision.fpir, model_id, precision),
    )


def search_answer(identification: Identification, precision: str) -> SearchResponse:
    decision, model_id = identification.decision, identification.model_id
    results = [
        FaceMatchesView(
            face=face_view(one.faces[0]),
            fused=len(one.faces),
            agreement=None if one.agreement is None else round(one.agreement, 6),
            outlier=one.outlier,
            candidates=[
                CandidateView(
                    identity_id=candidate.id,
                    external_id=candidate.external_id,
                    label=candidate.label,
                    metadata=candidate.metadata,
                    match=matches(decision, candidate),
                    corrected=candidate.overruled,
                    score=round(candidate.score, 6),
                    threshold=decision.threshold_at(candidate.score, candidate.template_count),
                    centroid_score=round(candidate.centroid_score, 6),
                    template_count=candidate.template_count,
                )
                for candidate in one.found.candidates
            ],
            explain=_explanation(one.found),
        )
        for one in identification.matches
    ]
    return SearchResponse(
        results=results,
        faces_found=len(identification.detections),
        plan=identification.matches[0].found.plan,
        search_ms=round(identification.search_ms, 2),
        **_decision(decision.threshold, decision.fmr, decision.fpir, model_id, precision),
    )


def _explanation(found: Found) -> ExplanationView | None:
    if found.steps is None:
        return None
    whole = found.steps[0].milliseconds
    return ExplanationView(plan=found.plan, shortlist=found.shortlist, ms=whole, steps=found.steps)


def _decision(threshold: float, fmr: Rate | None, fpir: Rate | None, model_id: str, precision: str) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "fmr": None if fmr is None else _significant(fmr.value),
        "fmr_interval": None if fmr is None else _interval(fmr),
        "fpir": None if fpir is None else _significant(fpir.value),
        "fpir_interval": None if fpir is None else _interval(fpir),
        "model_id": model_id,
        "precision": precision,
    }


def _interval(rate: Rate) -> Interval | None:
    return None if rate.interval is None else (_significant(rate.interval[0]), _significant(rate.interval[1]))


def _significant(rate: float) -> float:
    """Four digits: no rate is known better."""
    return float(f"{rate:.4g}")


def deletion_answer(receipt: Receipt) -> DeletionResponse:
    entry = receipt.entry
    view = None if entry is None else ReceiptView(number=entry.number, at=entry.at, code=entry.code.hex())
    return DeletionResponse(
        identity_id=receipt.identity_id,
        templates_deleted=receipt.deleted["templates"],
        deleted=receipt.deleted,
        receipt=view,
    )


def embedding_text(vector: object) -> str:
    """Little-endian float32, Base64."""
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def embed_answer(observation: Observation, model_id: str, dim: int, precision: str) -> EmbedResponse:
    faces = [
        EmbeddedFaceView(face=seen_face(face), embedding=embedding_text(face.embedding)) for face in observation.faces
    ]
    return EmbedResponse(
        model_id=model_id, dim=dim, precision=precision, faces=faces, faces_found=len(observation.detections)
    )


def prediction(observation: Observation, classifier: Classifier, top_k: int) -> PredictResponse:
    faces = [
        PredictedFaceView(
            face=seen_face(face),
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
        faces_found=len(observation.detections),
    )


def subject_data_response(held: SubjectData, crop_cipher: CropCipher | None, with_audit: bool) -> SubjectDataResponse:
    """`crop_cipher`: opens the crops."""
    theirs = {row["source_sha256"] for row in held.templates}
    return SubjectDataResponse(
        identity=identity_view(held.identity),
        templates=[_stored(row) for row in held.templates],
        centroids=[_stored(row) for row in held.centroids],
        corrections=[CorrectionView.model_validate(row) for row in held.corrections],
        # Crops of corrections show other people.
        crops=[_crop(row, crop_cipher) for row in held.crops if row["source_sha256"] in theirs],
        kept_answers=[{"key": row["key"], "answer": row["answer"], "at": row["created_at"]} for row in held.answers],
        job_rows=[{name: value for name, value in row.items() if name != "collection_id"} for row in held.job_rows],
        audit=[entry_view(entry) for entry in held.audit] if with_audit else [],
    )


def _crop(row: Mapping[str, Any], crop_cipher: CropCipher | None) -> StoredCrop:
    image = None
    if crop_cipher is not None:
        with contextlib.suppress(CropUnreadable):
            image = base64.b64encode(crop_cipher.open(row["sealed"], row["source_sha256"])).decode()
    return StoredCrop(source_sha256=row["source_sha256"].hex(), image=image, created_at=row["created_at"])


def _stored(row: Mapping[str, Any]) -> StoredEmbedding:
    digest = row.get("source_sha256")
    return StoredEmbedding(
        id=row.get("id"),
        model_id=row["model_id"],
        embedding=embedding_text(row["embedding"]),
        box=row.get("box"),
        detection_score=row.get("detection_score"),
        quality=row.get("quality"),
        source_sha256=None if digest is None else digest.hex(),
        created_at=row.get("created_at"),
    )
