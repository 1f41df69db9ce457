"""The service's settings. Read by the composition roots only; deeper code gets plain values.

Later beats earlier: defaults, a YAML file (`REGISTRY_CONFIG`, default `configs/service.yaml` where it exists), secret
files (`REGISTRY_SECRETS_DIR`), environment (`REGISTRY_SECTION__KEY`).
"""

import ipaddress
import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import platformdirs
import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from service.errors import StartupError
from service.gallery.storage.row_security import APP
from service.inference.bundle import Precision
from service.inference.graph import Backend, Device
from service.strict_model import Strict
from service.telemetry.logs import LogFormat

PREFIX = "REGISTRY_"
BUNDLES = Path(__file__).parents[1] / "bundles"
CONFIG_VARIABLE, SECRETS_VARIABLE = f"{PREFIX}CONFIG", f"{PREFIX}SECRETS_DIR"
DEFAULT_CONFIG = Path("configs/service.yaml")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_origin(url: str) -> None:
    """Raises ValueError unless the URL is scheme, host and port, and nothing else."""
    try:
        parts = urlsplit(url)
        is_whole = parts.hostname is not None and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole or parts.scheme not in {"http", "https"}:
        raise ValueError(f"{url!r} is not like http://worker:8001")
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("takes scheme, host and port only; the secret is inference.worker_token")


def _shipped_or(path: Path) -> Path:
    """Raises ValueError: a bare name is neither."""
    if len(path.parts) != 1 or path.exists():
        return path
    if (shipped := BUNDLES / path.name).is_dir():
        return shipped
    names = ", ".join(sorted(folder.name for folder in BUNDLES.glob("embedder*")))
    raise ValueError(f"there is no folder {path} here, and no shipped bundle of that name; shipped are {names}")


class _Section(Strict):
    """One block of the settings."""


class ServerSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    workers: int = Field(1, ge=1)
    require_keys: bool | None = Field(None, description="API keys; unset: where the port is not on loopback")
    allow_unauthenticated: bool = Field(
        False, description="no keys although the port is not on loopback; a proxy must keep strangers out"
    )

    rate: int | None = Field(
        None, ge=1, description="requests a minute that a key may make, where it has no rate of its own; by process"
    )
    log: LogFormat = "text"
    otlp_endpoint: str | None = Field(None, description="http://collector:4318: OpenTelemetry traces by OTLP over HTTP")

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_an_origin(cls, value: str | None) -> str | None:
        if value is not None:
            _require_origin(value)
        return value

    @property
    def on_loopback(self) -> bool:
        return _is_loopback(self.host)

    @property
    def keys_required(self) -> bool:
        if self.require_keys is not None:
            return self.require_keys
        return not self.on_loopback and not self.allow_unauthenticated


class DatabaseSettings(_Section):
    url: SecretStr | None = Field(
        None, description="postgresql+psycopg://…; unset: the service runs its own PostgreSQL below `data_dir`"
    )
    owner_url: SecretStr | None = Field(
        None,
        description="account that migrates and builds indexes; unset: `url`, whose connections then take on the rights "
        "of registry_app for everything else",
    )
    pool_size: int = Field(10, ge=1)
    pool_timeout_s: float = Field(5.0, gt=0)
    migrate_on_start: bool | None = Field(None, description="unset: with the embedded server only")
    hnsw_min_identities: int = Field(
        5_000_000,
        ge=1,
        description="identities from which on a collection gets an HNSW index, which takes less time than comparing "
        "all and misses some",
    )
    hnsw_memory_mb: int | None = Field(
        None,
        ge=64,
        description="for building an index, about 3 KB a person of 512 dimensions; unset: as the server says",
    )
    maintenance_interval_s: float = Field(60.0, gt=0)

    @field_validator("url", "owner_url")
    @classmethod
    def _is_a_url(cls, value: SecretStr | None) -> SecretStr | None:
        try:
            driver = None if value is None else make_url(value.get_secret_value()).drivername
        except ArgumentError:
            raise ValueError("is not a database URL") from None
        if driver not in {None, "postgresql+psycopg"}:
            raise ValueError(f"must begin with postgresql+psycopg://, not {driver}://")
        return value


class DetectorSettings(_Section):
    bundle: Path = BUNDLES / "detector"
    image_size: int | None = Field(None, ge=96, multiple_of=32, description="unset: chosen for each picture")
    min_score: float | None = Field(None, gt=0, lt=1, description="unset: the bundle's own choice")
    precision: Precision | Literal["auto"] = Field(
        "auto",
        description="auto: bf16 where the processor computes in it natively; unlike the embedder's precision, "
        "no threshold depends on it",
    )
    tiling: bool = Field(False, description="look at large pictures in tiles as well: small faces, many times the cost")


class EmbedderSettings(_Section):
    bundle: Path = Field(BUNDLES / "embedder", description="of the main model, which new collections get")
    more: list[Path] = Field(
        [], description="bundles of further models, which collections change to or from; a shipped one by its name"
    )

    @field_validator("bundle", "more")
    @classmethod
    def _may_be_shipped(cls, value: Path | list[Path]) -> Path | list[Path]:
        """A bundle that comes with the service may be called by its name alone."""
        if isinstance(value, list):
            return [_shipped_or(one) for one in value]
        return _shipped_or(value)

    @property
    def bundles(self) -> list[Path]:
        """The main one first."""
        return [self.bundle, *self.more]


class ClassifierSettings(_Section):
    bundle: Path | None = Field(
        None,
        description="what `python -m trainer classifier fit` wrote, for POST /predict; its embedder must be loaded",
    )
    allowed_url_hosts: list[str] = Field(
        [], description="hosts whose pictures /predict may fetch, such as photos.example.com or 10.0.0.5:8080"
    )

    @field_validator("allowed_url_hosts")
    @classmethod
    def _as_urls_tell_them(cls, value: list[str]) -> list[str]:
        return [host.strip().lower() for host in value]


class InferenceSettings(_Section):
    worker_url: str | None = Field(
        None,
        description="http://worker:8001, several with commas; every address behind a name is used. Unset: the models "
        "run in the API's process",
    )
    worker_token: SecretStr | None = Field(None, min_length=16, description="shared by API and workers")
    worker_timeout_s: float = Field(30.0, gt=0, description="for one request to a worker")
    backend: Backend = "auto"
    device: Device = "cpu"
    precision: Precision = "f32"
    threads: int | None = Field(None, ge=1, description="unset: the cores, shared by the worker processes; at most 8")
    max_batch: int = Field(8, ge=1)
    max_queued: int = Field(64, ge=1)

    @field_validator("worker_url")
    @classmethod
    def _are_urls(cls, value: str | None) -> str | None:
        for url in (value or "").split(",") if value is not None else []:
            _require_origin(url.strip())
        return value

    @property
    def urls(self) -> list[str]:
        return [] if self.worker_url is None else [url.strip().rstrip("/") for url in self.worker_url.split(",")]

    @property
    def token(self) -> str | None:
        return None if self.worker_token is None else self.worker_token.get_secret_value()


class WorkerSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8001, ge=0, le=65535)

    @property
    def on_loopback(self) -> bool:
        return _is_loopback(self.host)


class RecognitionSettings(_Section):
    fmr: float = Field(1e-3, gt=0, lt=1, description="false match rate where a request asks for none")
    duplicate_fpir: float = Field(
        0.01, gt=0, lt=1, description="share of new people who may be wrongly told to look like an enrolled one"
    )
    min_face_px: float = Field(32, ge=0)
    min_sharpness: float = Field(15, ge=0)
    max_asymmetry: float = Field(0.75, ge=0, le=1)
    min_brightness: float = Field(30, ge=0, le=255)
    max_brightness: float = Field(235, ge=0, le=255)
    min_quality: float = Field(0.05, ge=0, le=1, description="share of the model's reference faces that are worse")


class AuditSettings(_Section):
    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="of the audit trail's codes, outside the database and the same for all services on it; unset: made "
        "in `data_dir` with the embedded database, else no trail is kept",
    )


class CropSettings(_Section):
    key: SecretStr | None = Field(
        None,
        min_length=32,
        description="under which aligned crops are kept where a collection asks for it, outside the database and the "
        "same for all services on it; unset: made in `data_dir` with the embedded database, else none can be kept",
    )
    old_keys: list[SecretStr] = Field([], description="under which crops were kept before; still read")


class JobSettings(_Section):
    in_api: bool = Field(True, description="the API's processes work on jobs too; off where `service jobs` does")
    uploads: Path | None = Field(
        None, description="folder for uploaded archives, seen by every process; unset: below `data_dir`"
    )
    import_root: Path | None = Field(
        None, description="folder of the server's below which jobs may enrol; unset: uploaded archives only"
    )
    parallel: int = Field(4, ge=1, le=64, description="people whom one task enrols at once")
    keep_days: int = Field(7, ge=1, description="how long finished jobs and the results of their rows are kept")


class LimitSettings(_Section):
    max_body_bytes: int = Field(32 * 1024**2, ge=1024)
    max_image_bytes: int = Field(20 * 1024**2, ge=1024)
    max_archive_bytes: int = Field(4 * 1024**3, ge=1024, description="of a bulk enrolment's zip")
    max_image_pixels: int = Field(50_000_000, ge=1024)


class Settings(BaseSettings):
    """Everything that can be configured."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    data_dir: Path = Field(default_factory=lambda: _default_data_dir())
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    detector: DetectorSettings = DetectorSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    inference: InferenceSettings = InferenceSettings()
    worker: WorkerSettings = WorkerSettings()
    recognition: RecognitionSettings = RecognitionSettings()
    audit: AuditSettings = AuditSettings()
    crops: CropSettings = CropSettings()
    jobs: JobSettings = JobSettings()
    limits: LimitSettings = LimitSettings()

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """YAML reads a section whose keys are all commented out as null; one that does not exist is still told."""
        return {name: value for name, value in values.items() if value is not None or name not in cls.model_fields}

    @property
    def database_url(self) -> str | None:
        return None if self.database.url is None else self.database.url.get_secret_value()

    @property
    def owner_url(self) -> str | None:
        """Of the account that owns the tables."""
        given = self.database.owner_url
        return self.database_url if given is None else given.get_secret_value()

    @property
    def app_password(self) -> str | None:
        """Of the service's account, where it logs in by itself."""
        if self.database.owner_url is None or self.database_url is None:
            return None
        url = make_url(self.database_url)
        return url.password if url.username == APP else None

    @property
    def postgres_folder(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def uploads_folder(self) -> Path:
        return self.jobs.uploads or self.data_dir / "uploads"

    @property
    def migrates_on_start(self) -> bool:
        chosen = self.database.migrate_on_start
        return self.database.url is None if chosen is None else chosen

    @model_validator(mode="after")
    def _is_not_open_to_strangers(self) -> "Settings":
        server = self.server
        if not server.on_loopback and server.require_keys is False and not server.allow_unauthenticated:
            raise ValueError(
                f"server.host {server.host} can be reached from other machines and server.require_keys is off; say "
                "server.allow_unauthenticated=true as well where a proxy keeps strangers out"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        sources = [init_settings, env_settings]
        if folder := os.environ.get(SECRETS_VARIABLE):
            if not Path(folder).is_dir():
                raise StartupError(f"{SECRETS_VARIABLE} names {folder}, which is no folder")
            sources.append(NestedSecretsSettingsSource(file_secret_settings, folder, secrets_nested_delimiter="__"))
        if (file := _config_file()) is not None:
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=file))
        return tuple(sources)


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from everywhere.

    Raises:
        StartupError: a value is wrong, a name is unknown, or a named file is missing. The last two would otherwise be
            ignored without a word.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = (f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
        raise StartupError("The settings are wrong:\n  " + "\n  ".join(problems)) from None
    except yaml.YAMLError as error:
        raise StartupError(f"{_config_file()} is not YAML: {error}") from None
    except (SettingsError, TypeError, ValueError) as error:
        raise StartupError(f"The settings can't be read: {error}") from None


def _config_file() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None:
        return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None
    if not Path(named).is_file():
        raise StartupError(f"{CONFIG_VARIABLE} names {named}, which does not exist")
    return Path(named)


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {CONFIG_VARIABLE, SECRETS_VARIABLE}
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper().split("__")[0] not in known:
            raise StartupError(f"unknown setting {variable} in the environment; is it misspelt?")


def _default_data_dir() -> Path:
    """Root's home folder is closed to the account that PostgreSQL runs under, so root gets a folder of the system's."""
    if os.geteuid() == 0:
        return Path("/var/lib/identity-registry")
    return Path(platformdirs.user_data_dir("identity-registry"))
