"""Documents of the loaded models."""

from pydantic import BaseModel, Field

from service.inference.calibration import Calibration


class ModelView(BaseModel):
    id: str
    dim: int
    precision: str
    calibrated: bool = Field(description="requests may name error rates; otherwise only thresholds")


class ModelsResponse(BaseModel):
    models: list[ModelView]


class CalibrationResponse(BaseModel):
    model_id: str
    calibration: Calibration
    picture: str | None = Field(description="path of the DET curve as SVG")
