"""An API whose workers are elsewhere loads no model runtime, and needs none installed."""

import socket
import subprocess
import sys

HEAVY = (
    "torch",
    "torchvision",
    "ultralytics",
    "openvino",
    "onnxruntime",
    "cv2",
    "PIL",
    "pi_heif",
    "matplotlib",
    "psutil",
)
PROGRAM = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None  # importing it fails
from service.app import create_app
from service.engines import build_engine
from service.inference.bundle import read_embedder
from service.settings import load_settings
import service.worker
settings = load_settings(inference={{"worker_url": "http://worker:8001"}})
create_app(settings)
print(type(build_engine(settings, [read_embedder(settings.embedder.bundle)])).__name__)
try:
    build_engine(load_settings(), None)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_the_api_imports_nothing_heavy() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    remote, local = result.stdout.splitlines()
    assert remote == "RemoteEngine"
    assert local.startswith("StartupError Models can't be run here")
    assert "identity-registry[inference]" in local


def test_a_taken_port_is_told_before_anything_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "service", "worker", "--port", port]
        result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert f"the address 127.0.0.1:{port} can't be had" in result.stderr
