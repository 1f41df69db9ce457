"""Each process loads only the packages that it needs, and none of the others must be installed."""

import json
import socket
import subprocess
import sys

MODEL_RUNTIMES = ["torch", "torchvision", "ultralytics", "openvino", "onnxruntime", "cv2", "PIL", "pi_heif"]
DATABASE = ["sqlalchemy", "psycopg", "psycopg_pool", "alembic", "procrastinate", "pgvector"]
OTHERS = ["matplotlib", "psutil", "trainer", "identity_registry"]


def loaded(program: str) -> set[str]:
    """Runs a program in a new process and returns the names of the modules that it has loaded."""
    code = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_the_worker_loads_no_database_package() -> None:
    modules = loaded(
        "from service.runtime.settings import load_settings\n"
        "from service.runtime.worker import create_worker\n"
        "from service.runtime.engines import build_local\n"
        "settings = load_settings()\n"
        "create_worker(settings)\n"
        "build_local(settings)\n"
    )
    assert modules.isdisjoint([*DATABASE, *OTHERS, "torch", "ultralytics"])
    assert {"cv2", "PIL"} <= modules  # The worker loads these to decode pictures.


def test_an_api_with_workers_loads_no_model_runtime() -> None:
    modules = loaded(
        "from service.runtime.api import create_app\n"
        "from service.runtime.engines import build_engine\n"
        "from service.inference.bundle import read_embedder\n"
        "from service.runtime.settings import load_settings\n"
        'settings = load_settings(inference={"worker_url": "http://worker:8001"})\n'
        "create_app(settings)\n"
        "engine = build_engine(settings, [read_embedder(settings.embedder.bundle)])\n"
        'assert type(engine).__name__ == "RemoteEngine"\n'
    )
    assert modules.isdisjoint([*MODEL_RUNTIMES, *OTHERS])


def test_the_job_process_loads_no_model_runtime_when_its_engine_is_remote() -> None:
    assert loaded("import service.runtime.jobs").isdisjoint([*MODEL_RUNTIMES, *OTHERS])


def test_the_settings_load_no_database_package() -> None:
    modules = loaded("from service.runtime.settings import load_settings\nload_settings()")
    assert modules.isdisjoint([*DATABASE, *MODEL_RUNTIMES, *OTHERS, "fastapi"])


def test_the_command_line_loads_packages_when_a_command_needs_them() -> None:
    assert loaded("import service.__main__").isdisjoint([*DATABASE, *MODEL_RUNTIMES, *OTHERS, "fastapi", "uvicorn"])


def test_the_trainer_loads_neither_database_nor_api() -> None:
    modules = loaded("import trainer.__main__")
    assert modules.isdisjoint([*DATABASE, "fastapi", "service.runtime", "service.gallery", "service.recognition"])


def test_the_error_of_a_missing_model_runtime_names_the_packages_to_install() -> None:
    program = (
        "import sys\n"
        f"for name in {MODEL_RUNTIMES!r}:\n"
        "    sys.modules[name] = None\n"
        "from service.errors import StartupError\n"
        "from service.runtime.engines import build_engine\n"
        "from service.runtime.settings import load_settings\n"
        "try:\n"
        "    build_engine(load_settings(), [])\n"
        "except StartupError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install '.[inference]'" in result.stdout, result.stderr


def test_a_port_in_use_is_reported_before_the_models_are_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, "-m", "service", "worker", "--port", port]
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"cannot bind to 127.0.0.1:{port}" in result.stderr
