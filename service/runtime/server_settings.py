"""Settings of the HTTP API."""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from service.runtime.setting_sections import is_loopback, require_origin
from service.strict_model import Strict
from service.telemetry.logs import LogFormat

ORIGIN = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")
"""The form in which browsers send an origin (RFC 6454, 6.2)."""


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
    unix_socket: Path | None = Field(
        None, description="path of a Unix socket to bind to instead of an address; its folder restricts access"
    )
    cors_origins: list[str] = Field(
        [], max_length=100, description="origins whose web pages may send requests, e.g. https://app.example.org"
    )
    compreface_api: bool = Field(
        False, description="also serve CompreFace's REST API below /api/v1, for clients that were written for it"
    )
    trusted_proxies: list[IPv4Network | IPv6Network] = Field(
        [IPv4Network("127.0.0.1"), IPv6Network("::1")],
        max_length=100,
        description="networks of the proxies whose header names the client, for the audit trail",
    )
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = Field(
        "x-forwarded-for", description="the header that the proxies set; clients can set the other one themselves"
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

    @field_validator("cors_origins")
    @classmethod
    def _require_origins(cls, values: list[str]) -> list[str]:
        for value in values:
            if ORIGIN.fullmatch(value) is None:
                raise ValueError(f"{value!r} must have the form https://app.example.org, in lower case, without a path")
        return values

    @property
    def on_loopback(self) -> bool:
        """True: only programs of this machine reach the API."""
        return self.unix_socket is not None or is_loopback(self.host)

    @property
    def keys_required(self) -> bool:
        if self.require_keys is not None:
            return self.require_keys
        return not self.on_loopback and not self.allow_unauthenticated
