#!/usr/bin/env bash
# Detectors and landmark finders that don't fit beside our torch and OpenCV when pip resolves what they ask for:
# facenet-pytorch pins an old torch, mediapipe brings a second OpenCV. What they really import is here already, so they
# are installed alone. MediaPipe's and dlib's model files are not in their packages: their users name them.
set -euo pipefail
python=$1
cd "$(dirname "$0")/.."
"$python" -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --no-deps \
    facenet-pytorch mediapipe dlib-bin
