"""The base class of configuration files: YAML that is rejected if a key is unknown, missing or invalid."""

import difflib
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from service.strict_model import Strict

Fraction = Annotated[float, Field(ge=0, le=1)]


class ConfigError(ValueError):
    """The configuration, an option or the data cannot be used; the message says what to change."""


def missing_package(feature: str, package: str) -> ConfigError:
    """Returns the error for an optional package that is not installed."""
    return ConfigError(
        f"{feature} needs the package {package}; install requirements/trainer-tools.lock, as `make setup` does"
    )


class Configuration(Strict):
    """Settings of a YAML file. Unknown keys are errors."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a YAML file.

        Raises:
            ConfigError: The file cannot be read, is not YAML, or has an unknown, missing or invalid key; the message
                names the key.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()) or {})
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: {error}") from None
        except ValidationError as error:
            problems = [f"  {_problem(item, cls)}" for item in error.errors()]
            raise ConfigError("\n".join([f"{path} has invalid settings:", *problems])) from None


def _problem(item: ErrorDetails, kind: type[BaseModel]) -> str:
    """Describes an invalid setting; for an unknown key it names the nearest valid one."""
    place = ".".join(str(part) for part in item["loc"]) or "the file"
    if item["type"] != "extra_forbidden":
        return f"{place}: {item['msg'].removeprefix('Value error, ')}"
    schema = kind.model_json_schema()
    known = {key for part in [schema, *schema.get("$defs", {}).values()] for key in part.get("properties", {})}
    similar = difflib.get_close_matches(str(item["loc"][-1]), sorted(known), 1)
    return f"{place}: there is no such key" + (f"; did you mean {similar[0]}?" if similar else "")
