#!/usr/bin/env bash
# Compiles the lock files: exact versions with the hashes of the files for every platform, without addresses of package
# indexes.
#   bash tools/lock.sh PYTHON [--upgrade]
# Without --upgrade, versions in the lock files are kept where they still fit.
set -euo pipefail
cd "$(dirname "$0")/.."
run=$1
shift
compile() { # NAME ARGUMENTS…
  local name=$1
  shift
  echo "compiling requirements/$name.lock"
  "$run" -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-annotate --no-header --constraint requirements/constraints.txt --override requirements/overrides.txt \
    --excludes requirements/excluded.txt --output-file "requirements/$name.lock" "$@"
}
client=clients/python/pyproject.toml
# The environments. All other files take their versions from dev.lock.
compile dev pyproject.toml $client requirements/build.in --extra all "$@"
versions=(--constraint requirements/dev.lock)
compile serve pyproject.toml $client requirements/build.in --extra demo "${versions[@]}"
compile studio pyproject.toml $client requirements/build.in --extra demo --extra studio "${versions[@]}"
compile pictures requirements/pictures.in --no-deps "${versions[@]}"
compile trainer-tools requirements/trainer-tools.in --no-deps "$@"
# The images.
compile build requirements/build.in "${versions[@]}"
compile api pyproject.toml --extra api "${versions[@]}"
compile worker pyproject.toml --extra inference "${versions[@]}"
compile standalone pyproject.toml --extra serve "${versions[@]}"
# ONNX Runtime for CUDA contains the module of the one for CPUs; both cannot be installed.
gpu=$(mktemp --suffix .txt)
trap 'rm -f "$gpu"' EXIT
sed -nE 's/^onnxruntime==([^ ]+).*/onnxruntime-gpu[cuda,cudnn]==\1/p' requirements/dev.lock >"$gpu"
compile worker-gpu pyproject.toml "$gpu" --extra inference --no-emit-package onnxruntime "${versions[@]}"
# PyTorch has a file of its own: an image may install it from another index, whose files have other hashes.
compile torch requirements/constraints.txt "${versions[@]}"
mapfile -t torch < <(sed -nE 's/^(torch|torchvision|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==.*/\1/p' requirements/torch.lock)
compile trainer pyproject.toml $client --extra trainer "${torch[@]/#/--no-emit-package=}" "${versions[@]}"
