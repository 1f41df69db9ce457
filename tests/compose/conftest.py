"""Only `make compose-test` collects these: they build images and take minutes."""

import os

collect_ignore = [] if os.environ.get("COMPOSE_TEST") else ["test_compose.py"]
