#!/usr/bin/env bash
# Packages that don't fit beside our torch and OpenCV when pip resolves what they ask for. What they really import is here
# already or named below, so they are installed alone, at the versions of requirements.lock:
# - facenet-pytorch (pins an old torch) and mediapipe (a second OpenCV): detectors for `trainer prepare`;
# - dlib: landmarks. MediaPipe's and dlib's model files are not in their packages: their users name them;
# - litert-torch (asks for an older torch) with what it converts by, and LiteRT itself: models for phones.
set -euo pipefail
python=$1
cd "$(dirname "$0")/.."
"$python" -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --no-deps \
    facenet-pytorch mediapipe dlib-bin \
    litert-torch litert-converter ai-edge-litert ai-edge-quantizer immutabledict jax jaxlib opt_einsum torchao
