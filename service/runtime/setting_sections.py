"""The sections of the settings."""

import ipaddress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from service.inference.calibration import Precision
from service.inference.graph import Backend, Device
from service.strict_model import Strict

BUNDLES = Path(__file__).parents[1] / "bundles"
"""The folder of the shipped bundles."""
DRIVER = "postgresql+psycopg"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_origin(url: str) -> None:
    """Raises ValueError unless the URL consists of scheme, host and port."""
    try:
        parts = urlsplit(url)
        has_host = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in {"http", "https"}:
        raise ValueError(f"{url!r} must have the form http://worker:8001")
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must consist of scheme, host and port; the secret belongs in inference.worker_token")


def _bundle_folder(path: Path) -> Path:
    """Returns the folder of a bundle. A name without a path may be that of a shipped bundle. Raises ValueError."""
    if len(path.parts) != 1 or path.exists():
        return path
    if (shipped := BUNDLES / path.name).is_dir():
        return shipped
    names = ", ".join(sorted(folder.name for folder in BUNDLES.glob("embedder*")))
    raise ValueError(f"{path} is neither an existing folder nor a shipped bundle; the shipped bundles are {names}")


class DatabaseSettings(Strict):
    """PostgreSQL with pgvector."""

    url: SecretStr | None = Field(
        None, description="postgresql+psycopg://…; default: the service runs its own PostgreSQL below `data_dir`"
    )
    owner_url: SecretStr | None = Field(
        None,
        description="role that migrates the schema; default: "
        "`url`, whose connections then assume the role registry_app for everything else",
    )
    pool_size: int = Field(10, ge=1, description="maximum number of connections of a process")
    pool_timeout_s: float = Field(5.0, gt=0, description="seconds that a request waits for a connection")
    migrate_on_start: bool | None = Field(
        None, description="migrate the schema when the service starts; default: with the embedded server only"
    )
    maintenance_interval_s: float = Field(60.0, gt=0, description="seconds between two runs of the maintenance")

    @field_validator("url", "owner_url")
    @classmethod
    def _require_driver(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme, separator, _ = value.get_secret_value().partition("://")
        if not separator:
            raise ValueError(f"must be a database URL that begins with {DRIVER}://")
        if scheme != DRIVER:
            raise ValueError(f"must begin with {DRIVER}://, not {scheme}://")
        return value


class DetectorSettings(Strict):
    """Face detection."""

    bundle: Path = Field(BUNDLES / "detector", description="folder of the bundle, or an Ultralytics checkpoint")
    image_size: int | None = Field(
        None, ge=96, multiple_of=32, description="input size; default: chosen for each picture"
    )
    min_score: float | None = Field(
        None, gt=0, lt=1, description="minimum detection score; default: that of the bundle"
    )
    precision: Precision | Literal["auto"] = Field(
        "auto",
        description="auto: bf16 if the processor computes it natively. Thresholds do not depend on this precision",
    )
    tiling: bool = Field(
        False, description="also detect small faces in tiles of large pictures, at many times the cost"
    )


class EmbedderSettings(Strict):
    """Embedding models."""

    bundle: Path = Field(BUNDLES / "embedder", description="bundle of the main model, which new collections use")
    additional_bundles: list[Path] = Field(
        [], description="bundles of further models, for model migrations; a shipped bundle is named without a path"
    )

    @field_validator("bundle", "additional_bundles")
    @classmethod
    def _resolve_shipped(cls, value: Path | list[Path]) -> Path | list[Path]:
        if isinstance(value, list):
            return [_bundle_folder(path) for path in value]
        return _bundle_folder(value)

    @property
    def bundles(self) -> list[Path]:
        """All bundles, the main one first."""
        return [self.bundle, *self.additional_bundles]


class ClassifierSettings(Strict):
    """The classifier of POST /predict."""

    bundle: Path | None = Field(
        None, description="folder that `identity-trainer classifier fit` wrote; its embedder must be loaded"
    )
    allowed_url_hosts: list[str] = Field(
        [], description="hosts from which /predict may fetch pictures, e.g. photos.example.com or 10.0.0.5:8080"
    )

    @field_validator("allowed_url_hosts")
    @classmethod
    def _normalise(cls, value: list[str]) -> list[str]:
        return [host.strip().lower() for host in value]


class InferenceSettings(Strict):
    """The execution of the models."""

    worker_url: str | None = Field(
        None,
        description="http://worker:8001, or several URLs separated by commas; all addresses of a host name are used. "
        "Default: the models run in the API's process",
    )
    worker_token: SecretStr | None = Field(None, min_length=16, description="shared by API and workers")
    worker_timeout_s: float = Field(30.0, gt=0, description="seconds for one request to a worker")
    backend: Backend = Field(
        "auto", description="runtime of the graphs; auto: OpenVINO if installed, else ONNX Runtime"
    )
    device: Device = Field(
        "cpu", description="where the models run; cuda needs onnxruntime-gpu: requirements/worker-gpu.lock"
    )
    precision: Precision = Field("f32", description="number format of the embedder; calibrations depend on it")
    threads: int | None = Field(
        None, ge=1, description="threads of each process; default: the cores divided among the processes, at most 8"
    )
    max_batch: int = Field(8, ge=1, description="pictures that are processed together")
    max_queued: int = Field(64, ge=1, description="pictures that may wait; a request beyond that gets 503")
    decoders: int | None = Field(
        None, ge=1, description="processes that decode pictures; default: one for each core, at most 4"
    )

    @field_validator("worker_url")
    @classmethod
    def _require_urls(cls, value: str | None) -> str | None:
        for url in (value or "").split(",") if value is not None else []:
            require_origin(url.strip())
        return value

    @property
    def urls(self) -> list[str]:
        return [] if self.worker_url is None else [url.strip().rstrip("/") for url in self.worker_url.split(",")]

    @property
    def token(self) -> str | None:
        return None if self.worker_token is None else self.worker_token.get_secret_value()


class WorkerSettings(Strict):
    """The inference worker's HTTP server."""

    host: str = Field("127.0.0.1", description="address to bind to")
    port: int = Field(8001, ge=0, le=65535, description="TCP port; 0: any free one")

    @property
    def on_loopback(self) -> bool:
        return is_loopback(self.host)


class StudioSettings(Strict):
    """The web interface of the service."""

    mounted: bool = Field(
        False,
        description="serve the studio at /studio of the API; needs the extra `studio` and server.workers=1. Users "
        "enter their API key in the page",
    )
    collection: str = Field("default", description="collection with which a page opens")
