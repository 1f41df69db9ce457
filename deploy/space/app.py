"""Runs the registry and its studio in a Space, with an embedded PostgreSQL whose data is lost on restart."""

import os
import subprocess
import sys
from pathlib import Path

PORT = 7860
DATA = Path.home() / "registry"
NOTICE = "Everything that is enrolled is lost when this Space restarts."
REGISTRY = [sys.executable, "-m", "service"]


def main() -> None:
    """Creates the API key of this start, prints it to the log of the Space, and becomes the service."""
    settings = {
        "REGISTRY_DATA_DIR": str(DATA),
        "REGISTRY_SERVER__HOST": "0.0.0.0",  # noqa: S104  the only address of the container
        "REGISTRY_SERVER__PORT": str(PORT),
        "REGISTRY_STUDIO__MOUNTED": "true",
    }
    is_open = os.environ.get("OPEN_TO_EVERYBODY", "").lower() == "true"
    if is_open:
        settings |= {"REGISTRY_SERVER__REQUIRE_KEYS": "false", "REGISTRY_SERVER__ALLOW_UNAUTHENTICATED": "true"}
    os.environ.update({name: value for name, value in settings.items() if name not in os.environ})
    print(NOTICE, flush=True)
    if is_open:
        print("OPEN_TO_EVERYBODY is set: everybody who reaches this Space can enrol, search and erase.", flush=True)
    else:
        environment = os.environ | {"REGISTRY_DATABASE__MIGRATE_ON_START": "true"}
        command = [*REGISTRY, "keys", "create", "--name", "space"]
        created = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        print(f"API key of this start: {created.stdout.strip()}", flush=True)
    os.execv(sys.executable, [*REGISTRY, "serve"])  # noqa: S606  the service gets the signals of the container


if __name__ == "__main__":
    main()
