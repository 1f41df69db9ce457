#!/usr/bin/env bash
# Copies what a Space needs into a folder, which is then pushed to the Space:
#   bash deploy/space/prepare.sh FOLDER
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${1:?usage: prepare.sh FOLDER}
mkdir -p "$target/source/clients"
cp "$root"/deploy/space/{README.md,Dockerfile,app.py} "$target"
cp "$root/requirements/studio.lock" "$target/requirements.txt"
cp "$root/requirements/build.lock" "$target/build-requirements.txt"
for part in service trainer migrations pyproject.toml README.md LICENSE NOTICE; do
  rm -rf "${target:?}/source/$part"
  cp -r "$root/$part" "$target/source/$part"
done
rm -rf "$target/source/clients/python"
cp -r "$root/clients/python" "$target/source/clients/python"
find "$target" -name __pycache__ -prune -exec rm -r {} +
# The models are larger than the 10 MB that a Space accepts without Git LFS.
echo '*.onnx filter=lfs diff=lfs merge=lfs -text' >"$target/.gitattributes"
echo "written: $target. Push it to a Space: git -C $target init, add, commit, push (Git LFS is needed)"
