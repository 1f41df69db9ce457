"""The service's settings. Only the composition roots read them; other modules receive plain values.

Sources in the order of their precedence: environment (`REGISTRY_SECTION__KEY`), secret files
(`REGISTRY_SECRETS_DIR`), a YAML file (`REGISTRY_CONFIG`, default `configs/service.yaml` if it exists), defaults.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import platformdirs
import yaml
from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from service.errors import StartupError
from service.gallery.storage.app_role import APP_ROLE
from service.memory import available_bytes
from service.runtime.server_settings import ServerSettings
from service.runtime.setting_sections import (
    BUNDLES,
    ClassifierSettings,
    DatabaseSettings,
    DetectorSettings,
    EmbedderSettings,
    InferenceSettings,
    StudioSettings,
    WorkerSettings,
)
from service.runtime.use_case_sections import (
    AuditSettings,
    CropSettings,
    JobSettings,
    LimitSettings,
    RecognitionSettings,
    SearchSettings,
    WebhookSettings,
)

__all__ = ["BUNDLES", "Settings", "load_settings"]

PREFIX = "REGISTRY_"
CONFIG_VARIABLE, SECRETS_VARIABLE = f"{PREFIX}CONFIG", f"{PREFIX}SECRETS_DIR"
DEFAULT_CONFIG = Path("configs/service.yaml")
SHARE_OF_MEMORY = 0.25
"""Share of the available memory that indexes may use, if `search.memory_mb` is not set."""


class Settings(BaseSettings):
    """All settings of the service."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    data_dir: Path = Field(
        default_factory=lambda: _default_data_dir(),
        description="folder of the embedded database, its keys and uploads; default: the user's data folder, for root "
        "/var/lib/identity-registry",
    )
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    detector: DetectorSettings = DetectorSettings()
    embedder: EmbedderSettings = EmbedderSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    inference: InferenceSettings = InferenceSettings()
    worker: WorkerSettings = WorkerSettings()
    recognition: RecognitionSettings = RecognitionSettings()
    search: SearchSettings = SearchSettings()
    audit: AuditSettings = AuditSettings()
    crops: CropSettings = CropSettings()
    jobs: JobSettings = JobSettings()
    limits: LimitSettings = LimitSettings()
    studio: StudioSettings = StudioSettings()
    webhooks: WebhookSettings = WebhookSettings()

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_sections(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Removes sections that are null: YAML parses a section whose keys are all commented out as null."""
        return {name: value for name, value in values.items() if value is not None or name not in cls.model_fields}

    @property
    def database_url(self) -> str | None:
        return None if self.database.url is None else self.database.url.get_secret_value()

    @property
    def owner_url(self) -> str | None:
        """The URL of the role that owns the tables."""
        owner = self.database.owner_url
        return self.database_url if owner is None else owner.get_secret_value()

    @property
    def app_password(self) -> str | None:
        """The password of the service's role, if it logs in with its own URL."""
        if self.database.owner_url is None or self.database_url is None:
            return None
        parts = urlsplit(self.database_url)
        return unquote(parts.password) if parts.username == APP_ROLE and parts.password else None

    @property
    def postgres_folder(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def search_memory_bytes(self) -> int:
        """The maximum memory of a process for indexes."""
        if self.search.memory_mb is not None:
            return self.search.memory_mb * 1024**2
        return int(available_bytes() * SHARE_OF_MEMORY) // self.server.workers

    @property
    def uploads_folder(self) -> Path:
        return self.jobs.uploads or self.data_dir / "uploads"

    @property
    def migrates_on_start(self) -> bool:
        chosen = self.database.migrate_on_start
        return self.database.url is None if chosen is None else chosen

    @model_validator(mode="after")
    def _require_authentication(self) -> "Settings":
        server = self.server
        if not server.on_loopback and server.require_keys is False and not server.allow_unauthenticated:
            raise ValueError(
                f"server.host {server.host} is reachable from other machines and server.require_keys is false; set "
                "server.allow_unauthenticated=true as well if a proxy restricts access"
            )
        if self.studio.mounted and (server.workers > 1 or server.port == 0 or server.unix_socket is not None):
            raise ValueError("studio.mounted needs server.workers=1, a fixed server.port and no server.unix_socket")
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
                raise StartupError(
                    f"{SECRETS_VARIABLE} is {folder}, which is not a folder; create it or unset the variable"
                )
            sources.append(NestedSecretsSettingsSource(file_secret_settings, folder, secrets_nested_delimiter="__"))
        if (file := _config_file()) is not None:
            sources.append(YamlConfigSettingsSource(settings_cls, yaml_file=file))
        return tuple(sources)


def load_settings(**overrides: Any) -> Settings:
    """Reads the settings from all sources.

    Raises:
        StartupError: a value is invalid, a name is unknown, or a named file does not exist. pydantic-settings itself
            ignores unknown names and missing files.
    """
    _refuse_unknown_variables()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise StartupError("The settings are invalid:\n  " + "\n  ".join(map(_problem, error.errors()))) from None
    except yaml.YAMLError as error:
        raise StartupError(f"{_config_file()} is not valid YAML: {error}") from None
    except (SettingsError, TypeError, ValueError) as error:
        raise StartupError(f"The settings cannot be parsed: {error}") from None


def _problem(item: ErrorDetails) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{name} is not a setting; check its spelling"
    return f"{name}: {item['msg']}"


def _config_file() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    if named is None:
        return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None
    if not Path(named).is_file():
        raise StartupError(f"{CONFIG_VARIABLE} is {named}, which does not exist; create the file or unset the variable")
    return Path(named)


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields} | {CONFIG_VARIABLE, SECRETS_VARIABLE}
    for variable in os.environ:
        if variable.upper().startswith(PREFIX) and variable.upper().split("__")[0] not in known:
            raise StartupError(f"the environment variable {variable} is not a setting; check its spelling")


def _default_data_dir() -> Path:
    """Returns the user's data folder; for root a system folder, because PostgreSQL runs as another account then."""
    if os.geteuid() == 0:
        return Path("/var/lib/identity-registry")
    return Path(platformdirs.user_data_dir("identity-registry"))
