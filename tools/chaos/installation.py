"""An installation of the service that can be killed: API, inference worker, job runner and database."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.chaos.databases import ChaosDatabase, EmbeddedDatabase, ExternalDatabase, accepts_connections
from tools.service_processes import ServiceProcess, answers, free_port, running

WORKER_TOKEN = "the token of the chaos test"  # noqa: S105  both processes run on this machine only
JOB_RUNNER = "job runner"
KINDS = ("embedded", "external")
MAINTENANCE_INTERVAL_S = 2


class Installation:
    """All processes of one kind of installation, in a folder.

    With the embedded database, the API runs the models itself. With an external one, the API uses the worker. The job
    runner always uses the worker.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        databases: dict[str, Callable[[Path], ChaosDatabase]] = {
            "embedded": EmbeddedDatabase,
            "external": ExternalDatabase,
        }
        self.database = databases[kind](folder)
        config = folder / "service.yaml"
        config.touch()
        api_port, worker_port = free_port(), free_port()
        self.url, self._worker_url = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{worker_port}"
        self._alive = folder / "jobs.alive"
        models = {
            "REGISTRY_DATA_DIR": str(folder),
            "REGISTRY_CONFIG": str(config),
            "REGISTRY_RECOGNITION__MAX_TEMPLATES": "100000",  # the checks expect every acknowledged template
            "REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES": '["embedder-fairface"]',
            "REGISTRY_INFERENCE__WORKER_TOKEN": WORKER_TOKEN,
        }
        self.settings = models | {
            "REGISTRY_DATABASE__MAINTENANCE_INTERVAL_S": str(MAINTENANCE_INTERVAL_S),
            "REGISTRY_JOBS__IN_API": "false",
            **self.database.settings,
        }
        remote = {"REGISTRY_INFERENCE__WORKER_URL": self._worker_url}
        api_settings = self.settings if kind == "embedded" else self.settings | remote
        worker, api = ["worker", "--port", str(worker_port)], ["serve", "--port", str(api_port)]
        jobs = ["jobs", "--alive", str(self._alive)]
        self.processes = {
            "worker": ServiceProcess("worker", worker, models, folder / "worker.log", self._worker_is_ready),
            "API": ServiceProcess("API", api, api_settings, folder / "api.log", self.api_is_ready),
            JOB_RUNNER: ServiceProcess(
                JOB_RUNNER, jobs, self.settings | remote, folder / "jobs.log", self._jobs_are_ready
            ),
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.database.start()
        try:
            with running(list(self.processes.values())):
                yield
        finally:
            self.database.stop()

    def start(self, name: str) -> None:
        """Starts a process again that was killed."""
        if name == JOB_RUNNER:
            self._alive.unlink(missing_ok=True)
        self.processes[name].start()

    def api_is_ready(self) -> bool:
        return answers(f"{self.url}/readyz")

    def is_ready(self) -> bool:
        """Returns True if every process and the database respond."""
        return (
            accepts_connections(self.database.url)
            and self._worker_is_ready()
            and self.api_is_ready()
            and self._jobs_are_ready()
        )

    def _worker_is_ready(self) -> bool:
        return answers(f"{self._worker_url}/readyz", WORKER_TOKEN)

    def _jobs_are_ready(self) -> bool:
        """Returns True if the job runner has touched its file in the last 15 seconds; it does so every 5 seconds."""
        with contextlib.suppress(FileNotFoundError):
            return time.time() - self._alive.stat().st_mtime < 15
        return False
