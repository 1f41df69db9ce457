"""Routes of /models: the loaded models and their calibrations."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from service.api.http.access import AnyAccess
from service.api.schemas.models import CalibrationResponse, ModelsResponse, ModelView
from service.api.state import AppState, LoadedBundle, State
from service.errors import CalibrationNotFound, ModelNotFound
from service.inference.calibration import Calibration

router = APIRouter(prefix="/models", tags=["models"])
SVG = "image/svg+xml"
PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {SVG: {}}, "description": "The DET curve as SVG"}}


@router.get("", summary="List the loaded models")
async def list_models(state: State, _: AnyAccess) -> ModelsResponse:
    """Returns the loaded models. The first one is the main model, which new collections use."""
    views = [
        ModelView(
            id=model_id,
            dim=bundle.manifest.embedding_dim,
            precision=state.precision,
            calibrated=state.resolver.policy_of(model_id).range is not None,
        )
        for model_id, bundle in state.bundles.items()
    ]
    return ModelsResponse(models=views)


@router.get("/{model_id}/calibration", summary="Read a model's calibration")
async def read_calibration(model_id: str, state: State, _: AnyAccess) -> CalibrationResponse:
    """Returns the thresholds by which `fmr` and `fpir` are resolved, the data of the measurement, and the intervals."""
    table = _calibration(_bundle(state, model_id))
    path = None if table.picture is None else f"/models/{model_id}/calibration/det.svg"
    return CalibrationResponse(model_id=model_id, calibration=table, picture=path)


@router.get(
    "/{model_id}/calibration/det.svg", summary="Read the DET curve", response_class=FileResponse, responses=PICTURE
)
async def read_det_curve(model_id: str, state: State, _: AnyAccess) -> Response:
    """Returns the detection error trade-off (ISO/IEC 19795-1) of the calibration data as a picture."""
    bundle = _bundle(state, model_id)
    table = _calibration(bundle)
    if table.picture is None:
        raise CalibrationNotFound(f"the bundle of the model {model_id!r} has no picture of its calibration")
    return FileResponse(bundle.folder / table.picture, media_type=SVG)


def _bundle(state: AppState, model_id: str) -> LoadedBundle:
    if (bundle := state.bundles.get(model_id)) is None:
        raise ModelNotFound(f"the model {model_id!r} is not loaded; GET /models lists the loaded models")
    return bundle


def _calibration(bundle: LoadedBundle) -> Calibration:
    manifest = bundle.manifest
    if manifest.calibration is None:
        raise CalibrationNotFound(
            f"the bundle of the model {manifest.model_id!r} has no calibration; send a `threshold`, or measure a "
            "calibration with `identity-trainer calibrate`"
        )
    return manifest.calibration
