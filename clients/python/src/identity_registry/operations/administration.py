"""Operations on the audit trail, the models and the health of the service."""

import uuid

from identity_registry.binding import listing, operation
from identity_registry.inputs import DEFAULT_COLLECTION, without_none
from identity_registry.requests import Listing, Request, path_of, text
from identity_registry.responses.audit import AuditEntry, AuditHead
from identity_registry.responses.base import Page
from identity_registry.responses.models import CalibrationResponse, Liveness, Model, Readiness


class Audit:
    @listing
    def list_audit_entries(
        self,
        *,
        collection: str = DEFAULT_COLLECTION,
        identity_id: uuid.UUID | str | None = None,
        action: str | None = None,
        page_size: int | None = None,
    ) -> Listing[AuditEntry]:
        """Iterates over the audit trail of a collection, oldest entry first.

        Args:
            identity_id: only entries about this identity, also if it is erased.
            action: only entries of this kind, such as `register`.
        """
        query = without_none(collection=collection, identity_id=identity_id, action=action, limit=page_size)
        return Listing(Request("GET", "/audit", Page[AuditEntry].model_validate_json, query))

    @listing
    def list_audit_heads(self, *, collection: str = DEFAULT_COLLECTION) -> Listing[AuditHead]:
        """Iterates over the last entries of a collection's audit chains."""
        query = {"collection": collection}
        return Listing(Request("GET", "/audit/heads", Page[AuditHead].model_validate_json, query))


class Models:
    @listing
    def list_models(self) -> Listing[Model]:
        """Iterates over the loaded models. New collections use the first one by default."""
        return Listing(Request("GET", "/models", Page[Model].model_validate_json))

    @operation
    def read_calibration(self, model_id: str) -> Request[CalibrationResponse]:
        """Returns the thresholds of a model and the error rates that were measured at them."""
        path = path_of("models", model_id, "calibration")
        return Request("GET", path, CalibrationResponse.model_validate_json)

    @operation
    def read_det_curve(self, model_id: str) -> Request[str]:
        """Returns the detection error trade-off curve of a model (ISO/IEC 19795-1) as an SVG picture."""
        return Request("GET", path_of("models", model_id, "calibration", "det.svg"), text)


class Health:
    @operation
    def healthz(self) -> Request[Liveness]:
        """Returns the liveness document. Raises Unreachable if the process does not respond."""
        return Request("GET", "/healthz", Liveness.model_validate_json)

    @operation
    def readyz(self) -> Request[Readiness]:
        """Returns the readiness document. Raises Unavailable if the database does not respond or has another schema."""
        return Request("GET", "/readyz", Readiness.model_validate_json)

    @operation
    def read_metrics(self) -> Request[str]:
        """Returns the metrics of the service in the Prometheus text format."""
        return Request("GET", "/metrics", text)
