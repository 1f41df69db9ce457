"""Routes of /models: the loaded models and their calibrations."""

import asyncio
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from service.api.http.access import AnyAccess
from service.api.schemas.models import CalibrationResponse, ModelsResponse, ModelView
from service.api.state import State

router = APIRouter(prefix="/models", tags=["models"])
SVG = "image/svg+xml"
PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {SVG: {}}, "description": "The DET curve as SVG"}}


@router.get("", summary="List the loaded models")
async def list_models(state: State, _: AnyAccess) -> ModelsResponse:
    """Returns the loaded models. The first one is the main model, which new collections use."""
    views = [
        ModelView(id=model.id, dim=model.dim, precision=model.precision, calibrated=model.calibrated)
        for model in state.models.list()
    ]
    return ModelsResponse(models=views)


@router.get("/{model_id}/calibration", summary="Read a model's calibration")
async def read_calibration(model_id: str, state: State, _: AnyAccess) -> CalibrationResponse:
    """Returns the thresholds by which `fmr` and `fpir` are resolved, the data of the measurement, and the intervals."""
    calibration = state.models.calibration(model_id)
    path = None if calibration.picture is None else f"/models/{model_id}/calibration/det.svg"
    return CalibrationResponse(model_id=model_id, calibration=calibration, picture=path)


@router.get("/{model_id}/calibration/det.svg", summary="Read the DET curve", response_class=Response, responses=PICTURE)
async def read_det_curve(model_id: str, state: State, _: AnyAccess) -> Response:
    """Returns the detection error trade-off (ISO/IEC 19795-1) of the calibration data as a picture."""
    return Response(await asyncio.to_thread(state.models.det_curve, model_id), media_type=SVG)
