"""Settings of the HTTP API."""

from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from service.runtime.setting_sections import is_loopback, require_origin
from service.strict_model import Strict
from service.telemetry.logs import LogFormat


class ServerSettings(Strict):
    """The HTTP API."""

    host: str = Field("127.0.0.1", description="address to bind to")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0: any free one")
    workers: int = Field(1, ge=1, description="number of processes")
    tls_cert: Path | None = Field(None, description="PEM file of the certificate chain, to serve HTTPS without a proxy")
    tls_key: Path | None = Field(None, description="PEM file of the certificate's private key, without a passphrase")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path below which a proxy publishes the API, e.g. /faces; the proxy removes it or leaves it",
    )
    require_keys: bool | None = Field(
        None, description="require API keys; default: true unless the host is a loopback address"
    )
    allow_unauthenticated: bool = Field(
        False,
        description="allow requests without a key although the host is not a loopback address; a proxy must then "
        "restrict access",
    )
    rate_limit: int | None = Field(
        None, ge=1, description="requests per minute of a key without its own limit, counted in each process"
    )
    log_format: LogFormat = Field("text", description="text: plain text; json: one JSON document per line")
    otlp_endpoint: str | None = Field(
        None, description="origin of an OpenTelemetry collector for traces (OTLP over HTTP), e.g. http://collector:4318"
    )

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("set both tls_cert and tls_key, or neither")
        for file in (self.tls_cert, self.tls_key):
            if file is not None and not file.is_file():
                raise ValueError(f"{file} does not exist")
        return self

    @field_validator("otlp_endpoint")
    @classmethod
    def _require_origin(cls, value: str | None) -> str | None:
        if value is not None:
            require_origin(value)
        return value

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.host)

    @property
    def keys_required(self) -> bool:
        if self.require_keys is not None:
            return self.require_keys
        return not self.on_loopback and not self.allow_unauthenticated
