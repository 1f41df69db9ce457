"""Responses about models and the health of the service."""

from identity_registry.responses.base import Document, Interval


class Model(Document):
    """A loaded model. `calibrated`: requests may name an error rate; otherwise only a threshold."""

    id: str
    dim: int
    precision: str
    calibrated: bool


class CalibrationPoint(Document):
    """A threshold with the false match rate and the false non-match rate that were measured at it.

    Attributes:
        fnmr: None: the model was calibrated on people with one picture each.
    """

    fmr: float
    threshold: float
    fnmr: float | None = None
    fmr_interval: Interval | None = None
    fnmr_interval: Interval | None = None


class IdentificationPoint(Document):
    """Error rates of searches in galleries of one size, at the threshold for a requested FPIR."""

    gallery_size: int
    requested_fpir: float
    threshold: float
    fpir: float
    fpir_interval: Interval
    fnir: float


class Calibration(Document):
    """Measured thresholds of a model, from the highest false match rate to the lowest.

    Attributes:
        precision: number format of the model runtime during the measurement.
        picture: file of the DET curve in the model's bundle.
    """

    precision: str
    impostor_pairs: int
    genuine_pairs: int
    data: str
    people: int | None = None
    points: list[CalibrationPoint]
    identification: list[IdentificationPoint]
    picture: str | None = None


class CalibrationResponse(Document):
    """The calibration of a model. `picture`: path of the DET curve on the service, an SVG picture."""

    model_id: str
    calibration: Calibration
    picture: str | None = None


class Liveness(Document):
    """Liveness of the process: it responds to requests."""

    status: str


class Readiness(Document):
    """Readiness of the service. `inference`: `ready`, or the reason why no picture can be processed now."""

    status: str
    model_id: str
    schema_revision: str
    inference: str
