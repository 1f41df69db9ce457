"""The base class of configuration files: YAML that is rejected if a key is unknown, missing or invalid."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import Field, ValidationError

from service.strict_model import Strict

Fraction = Annotated[float, Field(ge=0, le=1)]
Choice = TypeVar("Choice", bound=StrEnum)


class ConfigError(ValueError):
    """The configuration, an option or the data cannot be used; the message says what to change."""


def missing_package(feature: str, package: str) -> ConfigError:
    """Returns the error for an optional package that is not installed."""
    return ConfigError(
        f"{feature} needs the package {package}; install requirements/trainer-tools.lock, as `make setup` does"
    )


def choice(kind: type[Choice], value: str, option: str) -> Choice:
    """Returns the member of an enumeration that the value of a command-line option names.

    Raises:
        ConfigError: The enumeration has no such member.
    """
    try:
        return kind(value)
    except ValueError:
        raise ConfigError(f"--{option} {value}: choose one of {', '.join(kind)}") from None


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
            problems = (f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
            raise ConfigError("\n".join([f"{path} has invalid settings:", *problems])) from None
