"""Starts the containers of the tests. Lets only `make compose-test` collect the tests: they take minutes."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.compose.stack import Stack

collect_ignore = [] if os.environ.get("COMPOSE_TEST") else ["test_compose.py"]


@pytest.fixture(scope="module")
def supplied_secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supplied")
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def stack(supplied_secrets: Path) -> Iterator[Stack]:
    stack = Stack(supplied_secrets)
    stack.compose("down", "--volumes", "--timeout", "5")
    stack.compose("build")
    print(f"\nup, from nothing: {stack.up():.1f} s")
    yield stack
    stack.compose("down", "--volumes", "--timeout", "5")


@pytest.fixture(scope="module")
def registry(stack: Stack) -> Iterator[httpx.Client]:
    assert "docker compose run --rm first-key" in stack.compose("logs", "migrate")
    with stack.client(stack.first_key()) as client:
        yield client
