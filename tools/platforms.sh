#!/usr/bin/env bash
# Checks that every package of the lock files has a wheel for each platform. Nothing is installed.
#   bash tools/platforms.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
run=$1
export MACOSX_DEPLOYMENT_TARGET=14.0
for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin; do
  for lock in serve studio api worker standalone; do
    "$run" -m uv pip install --dry-run --quiet --python-version 3.11 --python-platform $platform --only-binary :all: \
      --no-deps --require-hashes --target /nowhere --requirement "requirements/$lock.lock"
    echo "$lock.lock: $platform"
  done
done
