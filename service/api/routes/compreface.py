"""CompreFace's REST API, for clients that were written for it (`server.compreface_api`).

A subject is an identity, an image is a template, and the API key names the collection, as there.
"""

import math
import uuid
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request

from service.api.http.bodies import read_body
from service.api.http.collection_scope import KeyEnrolScope, KeyManageScope, KeySearchScope, KeyVerifyScope
from service.api.http.compreface_errors import CompreFaceRoute
from service.api.schemas.compreface import (
    MAX_IDS,
    FacesPage,
    FaceView,
    FileRequest,
    PairRequest,
    PairResponse,
    PairResult,
    RecogniseResponse,
    SourceFace,
    SubjectRequest,
    TemplateVerification,
    box_view,
    compared_faces,
    recognise_response,
)
from service.api.state import AppState, RequestEngine, State
from service.errors import Conflict, NoFace, RegistryError
from service.inference.engine import FaceChoice, Picture
from service.recognition.enrolment_records import EnrolmentRequest, IdempotentReplay
from service.recognition.identification import IdentificationRequest
from service.recognition.person_fields import Name

Limit = Annotated[int, Query(ge=0, le=1_000, description="largest faces of the picture; 0: all")]
Subject = Annotated[Name, Query()]
SubjectPath = Annotated[Name, Path()]
router = APIRouter(prefix="/api/v1", route_class=CompreFaceRoute, include_in_schema=False)


@router.get("/recognition/subjects")
@router.get("/recognition/subjects/")
async def list_subjects(state: State, collection: KeyManageScope) -> dict[str, list[str]]:
    return {"subjects": await state.subjects.names(collection.name)}


@router.post("/recognition/subjects", status_code=201)
async def add_subject(request: Request, state: State, collection: KeyManageScope) -> dict[str, str]:
    body = await read_body(request, SubjectRequest)
    await state.subjects.create(collection.name, body.subject, collection.actor)
    return {"subject": body.subject}


@router.put("/recognition/subjects/{subject:path}")
async def rename_subject(
    subject: SubjectPath, request: Request, state: State, collection: KeyManageScope
) -> dict[str, bool]:
    body = await read_body(request, SubjectRequest)
    await state.subjects.rename(collection.name, subject, body.subject, collection.actor)
    return {"updated": True}


@router.delete("/recognition/subjects")
async def delete_subjects(state: State, collection: KeyManageScope) -> dict[str, int]:
    erased, _ = await state.subjects.erase_all(collection.name, collection.actor)
    return {"deleted": erased}


@router.delete("/recognition/subjects/{subject:path}")
async def delete_subject(subject: SubjectPath, state: State, collection: KeyManageScope) -> dict[str, str]:
    await state.subjects.erase(collection.name, subject, collection.actor)
    return {"subject": subject}


@router.post("/recognition/faces", status_code=201)
async def add_face(
    request: Request, subject: Subject, state: State, engine: RequestEngine, collection: KeyEnrolScope
) -> FaceView:
    body = await read_body(request, FileRequest)
    picture = Picture(body.file, FaceChoice.ONLY)
    access = collection.access
    rights = access.may_identify(), access.may_manage()
    wanted = EnrolmentRequest(collection.name, subject, None, None, [picture], False, *rights, actor=collection.actor)
    enrolled = await state.enroller(engine).enrol(wanted)
    assert not isinstance(enrolled, IdempotentReplay)  # the request has no key
    [outcome] = enrolled.images
    if outcome.error is not None:
        raise outcome.error
    if outcome.template_id is None:
        raise Conflict("the subject has this face of this picture already")
    return FaceView(image_id=outcome.template_id, subject=enrolled.identity.external_id)


@router.get("/recognition/faces")
async def list_faces(
    state: State,
    collection: KeyManageScope,
    page: Annotated[int, Query(ge=0, le=100_000)] = 0,
    size: Annotated[int, Query(ge=1, le=1_000)] = 20,
    subject: Annotated[Name | None, Query()] = None,
) -> FacesPage:
    found, total = await state.subjects.page(collection.name, page, size, subject)
    return FacesPage(
        faces=[FaceView(image_id=template_id, subject=name) for template_id, name in found],
        page_number=page,
        page_size=size,
        total_pages=math.ceil(total / size),
        total_elements=total,
    )


@router.delete("/recognition/faces")
async def delete_faces(
    state: State, collection: KeyManageScope, subject: Annotated[Name | None, Query()] = None
) -> dict[str, int]:
    if subject is not None:
        return {"deleted": await state.subjects.erase(collection.name, subject, collection.actor)}
    _, templates = await state.subjects.erase_all(collection.name, collection.actor)
    return {"deleted": templates}


@router.post("/recognition/faces/delete")
async def delete_several_faces(
    state: State, collection: KeyManageScope, ids: Annotated[list[uuid.UUID], Body(max_length=MAX_IDS)]
) -> list[FaceView]:
    """Deletes templates; ids that do not exist are ignored, as in CompreFace."""
    deleted = []
    for template_id in ids:
        try:
            name = await state.subjects.delete_template(collection.name, template_id, collection.actor)
        except RegistryError as error:
            if error.status != 404:
                raise
        else:
            deleted.append(FaceView(image_id=template_id, subject=name))
    return deleted


@router.delete("/recognition/faces/{image_id}")
async def delete_face(image_id: uuid.UUID, state: State, collection: KeyManageScope) -> FaceView:
    name = await state.subjects.delete_template(collection.name, image_id, collection.actor)
    return FaceView(image_id=image_id, subject=name)


@router.post("/recognition/faces/{image_id}/verify")
async def verify_face(
    image_id: uuid.UUID,
    request: Request,
    state: State,
    engine: RequestEngine,
    collection: KeyVerifyScope,
    limit: Limit = 0,
) -> TemplateVerification:
    body = await read_body(request, FileRequest)
    found, model_id = await state.subjects.template(collection.name, image_id)
    picture = Picture(body.file, FaceChoice.ALL, model_id=model_id)
    observed = await state.embedder(engine).embed(picture, collection.name, collection.actor)
    if not observed.faces:
        raise NoFace("no face is found in the picture")
    state.subjects.record_comparison(collection.name, collection.actor, found.identity_id)
    similarity = _similarity(state, model_id)
    values = [similarity(float(face.embedding @ found.embedding)) for face in observed.faces]
    return TemplateVerification(result=compared_faces(observed.faces, values, limit))


@router.post("/recognition/recognize")
async def recognise(
    request: Request,
    state: State,
    engine: RequestEngine,
    collection: KeySearchScope,
    limit: Limit = 0,
    prediction_count: Annotated[int, Query(ge=1, le=100)] = 1,
    face_plugins: str = "",
    detect_faces: bool = True,
) -> RecogniseResponse:
    body = await read_body(request, FileRequest)
    picture = Picture(body.file, FaceChoice.ALL, cropped=not detect_faces)
    wanted = IdentificationRequest(
        collection.name, [picture], None, prediction_count, with_metadata=False, actor=collection.actor
    )
    found = await state.identifier(engine).identify(wanted)
    if not found.matches:
        raise NoFace("no face is found in the picture")
    similarity = _similarity(state, found.model_id)
    return recognise_response(found, similarity, limit, "landmarks" in face_plugins.split(","))


@router.post("/verification/verify")
async def verify_pair(
    request: Request, state: State, engine: RequestEngine, collection: KeyVerifyScope, limit: Limit = 0
) -> PairResponse:
    """Compares the largest face of the source with all faces of the target."""
    body = await read_body(request, PairRequest)
    embedder = state.embedder(engine)
    source, target = Picture(body.source_image, FaceChoice.LARGEST), Picture(body.target_image, FaceChoice.ALL)
    [first] = (await embedder.embed(source, collection.name, collection.actor)).faces
    others = (await embedder.embed(target, collection.name, collection.actor)).faces
    if not others:
        raise NoFace("no face is found in the target picture")
    state.subjects.record_comparison(collection.name, collection.actor)
    similarity = _similarity(state, engine.model_id)
    values = [similarity(float(face.embedding @ first.embedding)) for face in others]
    result = PairResult(
        source_image_face=SourceFace(box=box_view(first.detection)), face_matches=compared_faces(others, values, limit)
    )
    return PairResponse(result=[result])


def _similarity(state: AppState, model_id: str) -> Callable[[float], float]:
    """Returns the function from a score to CompreFace's similarity, 0 to 1."""
    rates = state.resolver.policy_of(model_id).rates
    if rates is None:
        return lambda score: round(max(score, 0.0), 6)
    return lambda score: round(rates.similarity_at(score), 6)
