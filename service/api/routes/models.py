"""GET /models and what is known about a model's errors"""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, Response

from service.api.http.access import AnyAccess
from service.api.schemas.all_schemas import CalibrationResponse, ModelsResponse, ModelView
from service.api.state import LoadedBundle, Registry, RegistryDependency
from service.errors import CalibrationNotFound, ModelNotFound
from service.inference.bundle import Calibration

router = APIRouter(prefix="/models", tags=["models"])
SVG = "image/svg+xml"
PICTURE: dict[int | str, dict[str, Any]] = {200: {"content": {SVG: {}}, "description": "The curve"}}


@router.get("", summary="The loaded models")
async def list_models(registry: RegistryDependency, _: AnyAccess) -> ModelsResponse:
    """The main one, which new collections get, is the first."""
    views = [
        ModelView(
            id=model_id,
            dim=bundle.manifest.embedding_dim,
            precision=registry.precision,
            calibrated=registry.resolver.policy_of(model_id).range is not None,
        )
        for model_id, bundle in registry.bundles.items()
    ]
    return ModelsResponse(models=views)


@router.get("/{model_id}/calibration", summary="Which threshold stands for which error rate")
async def calibration(model_id: str, registry: RegistryDependency, _: AnyAccess) -> CalibrationResponse:
    """The table by which `fmr` and `fpir` are resolved, on whom it was measured, and how sure it is."""
    table = _calibration(_bundle(registry, model_id))
    address = None if table.picture is None else f"/models/{model_id}/calibration/det.svg"
    return CalibrationResponse(model_id=model_id, calibration=table, picture=address)


@router.get("/{model_id}/calibration/det.svg", summary="The DET curve", response_class=FileResponse, responses=PICTURE)
async def det_curve(model_id: str, registry: RegistryDependency, _: AnyAccess) -> Response:
    """Detection error trade-off (ISO/IEC 19795-1) on the people of the calibration, as a picture."""
    bundle = _bundle(registry, model_id)
    table = _calibration(bundle)
    if table.picture is None:
        raise CalibrationNotFound(f"the bundle of model {model_id!r} has no picture of its calibration")
    return FileResponse(bundle.folder / table.picture, media_type=SVG)


def _bundle(registry: Registry, model_id: str) -> LoadedBundle:
    if (bundle := registry.bundles.get(model_id)) is None:
        raise ModelNotFound(f"model {model_id!r} is not loaded; GET /models lists what is")
    return bundle


def _calibration(bundle: LoadedBundle) -> Calibration:
    manifest = bundle.manifest
    if manifest.calibration is None:
        raise CalibrationNotFound(
            f"the bundle of model {manifest.model_id!r} has no calibration: `python -m trainer calibrate` measures "
            "one; until then ask for a `threshold`"
        )
    return manifest.calibration
