"""GET /models and what is known about a model's errors"""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from service.api.access import AnyAccess
from service.api.dependencies import Registry, RegistryDependency
from service.api.schemas import CalibrationAnswer, ModelsAnswer, ModelView
from service.errors import CalibrationNotFound, ModelNotFound
from service.inference.bundle import Calibration

router = APIRouter(prefix="/models", tags=["models"])
SVG = "image/svg+xml"
PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {SVG: {}}, "description": "The curve"}}


@router.get("", summary="The loaded models")
async def list_models(registry: RegistryDependency, _: AnyAccess) -> ModelsAnswer:
    manifest = registry.bundle.manifest
    view = ModelView(
        id=manifest.model_id,
        dim=manifest.embedding_dim,
        precision=registry.precision,
        calibrated=registry.deciding.policy.range is not None,
    )
    return ModelsAnswer(models=[view])


@router.get("/{model_id}/calibration", summary="Which threshold stands for which error rate")
async def calibration(model_id: str, registry: RegistryDependency, _: AnyAccess) -> CalibrationAnswer:
    """The table by which `fmr` and `fpir` are resolved, on whom it was measured, and how sure it is."""
    table = _calibration(registry, model_id)
    address = None if table.picture is None else f"/models/{model_id}/calibration/det.svg"
    return CalibrationAnswer(model_id=model_id, calibration=table, picture=address)


@router.get("/{model_id}/calibration/det.svg", summary="The DET curve", response_class=FileResponse, responses=PICTURE)
async def det_curve(model_id: str, registry: RegistryDependency, _: AnyAccess) -> Response:
    """Detection error trade-off (ISO/IEC 19795-1) on the people of the calibration, as a picture."""
    table = _calibration(registry, model_id)
    if table.picture is None:
        raise CalibrationNotFound(f"the bundle of model {model_id!r} has no picture of its calibration")
    return FileResponse(registry.bundle.folder / table.picture, media_type=SVG)


def _calibration(registry: Registry, model_id: str) -> Calibration:
    manifest = registry.bundle.manifest
    if model_id != manifest.model_id:
        raise ModelNotFound(f"model {model_id!r} is not loaded; GET /models lists what is")
    if manifest.calibration is None:
        raise CalibrationNotFound(
            f"the bundle of model {model_id!r} has no calibration: `python -m trainer calibrate` measures one; "
            "until then ask for a `threshold`"
        )
    return manifest.calibration
