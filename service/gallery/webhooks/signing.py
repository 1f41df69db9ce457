"""Signs the requests of webhooks as Standard Webhooks 1.0 does (https://www.standardwebhooks.com)."""

import base64
import hashlib
import hmac
import uuid
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SECRET_BYTES = 32
PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class WebhookSigner:
    """Derives the secret of each webhook from a key of the service, so that the database contains none.

    Attributes:
        key: the key of the audit trail.
    """

    key: bytes = field(repr=False)

    def secret(self, webhook_id: uuid.UUID) -> str:
        """Returns the secret with which the receiver checks signatures: `whsec_` and 32 bytes as Base64."""
        return PREFIX + base64.b64encode(self._secret(webhook_id)).decode()

    def headers(self, webhook_id: uuid.UUID, delivery_id: uuid.UUID, at: int, body: bytes) -> dict[str, str]:
        """Returns the headers of a request.

        Args:
            at: time of the attempt in seconds since 1970; receivers refuse old requests.
        """
        signed = b".".join((str(delivery_id).encode(), str(at).encode(), body))
        digest = hmac.digest(self._secret(webhook_id), signed, hashlib.sha256)
        return {
            "webhook-id": str(delivery_id),
            "webhook-timestamp": str(at),
            "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        }

    def _secret(self, webhook_id: uuid.UUID) -> bytes:
        info = b"identity-registry webhook"
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt=webhook_id.bytes, info=info).derive(self.key)
