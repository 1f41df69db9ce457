#!/usr/bin/env bash
# requirements.lock from what is installed, and from it the images' lock files: exact versions with the hashes of every
# platform's files, and no address of an index.
set -euo pipefail
cd "$(dirname "$0")/.."
run=$1
"$run" -m pip freeze --exclude-editable --exclude pip --exclude setuptools | grep -v ' @ ' >requirements.lock

compile() { # NAME EXTRAS…
  local name=$1
  shift
  "$run" -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
    --no-header --constraint requirements.lock --output-file "requirements/$name.lock" pyproject.toml "$@"
}
# A server has no windows: the same OpenCV without them needs no graphics libraries in the image. And OpenVINO without the
# package by which it reports its use.
version=$(sed -n 's/^opencv-python==//p' requirements.lock)
headless=$(mktemp --suffix .txt)
gpu=$(mktemp --suffix .txt)
trap 'rm -f "$headless" "$gpu"' EXIT
echo "opencv-python-headless==$version" >"$headless"
compile api
left_out=(--no-emit-package opencv-python --no-emit-package openvino-telemetry)
compile worker --extra inference "$headless" "${left_out[@]}"
sed -n 's/^onnxruntime==/onnxruntime-gpu[cuda,cudnn]==/p' requirements.lock >"$gpu"
compile worker-gpu --extra inference "$headless" "$gpu" "${left_out[@]}" --no-emit-package onnxruntime
compile standalone --extra inference --extra embedded "$headless" "${left_out[@]}"
# torch comes from the index that somebody chooses, with what it brings: its versions are fixed, its files are not.
of_torch='^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)=='
grep -E '^(torch|torchvision)==' requirements.lock >requirements/torch.txt
mapfile -t torch_left_out < <(grep -E "$of_torch" requirements.lock | grep -v '^nvidia-ml-py' | sed 's/==.*//; s/^/--no-emit-package=/')
compile trainer --extra inference --extra trainer "$headless" "${left_out[@]}" "${torch_left_out[@]}"
