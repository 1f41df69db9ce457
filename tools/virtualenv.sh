#!/usr/bin/env bash
# Creates a virtual environment: bash tools/virtualenv.sh PYTHON FOLDER
# Debian packages the module venv separately; as root, the script installs that package.
set -euo pipefail
python=$1 folder=$2
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
  echo "$python is $("$python" --version); Python 3.11, 3.12 or 3.13 is required: make PYTHON=python3.12 ..." >&2
  exit 1
}
"$python" -m venv "$folder" 2>/dev/null && exit 0
rm -rf "$folder"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo 'installing python3-venv'
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
fi
"$python" -m venv "$folder" || {
  echo "$python cannot create virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
  exit 1
}
