#!/usr/bin/env bash
# Installs an environment from lock files, and this project and its client as editable packages:
#   bash tools/environment.sh PYTHON FOLDER LOCK...
# The lock file `pictures` goes to FOLDER/share/pictures: its packages are used as files and never imported.
# In an environment that exists, packages that the lock files no longer name are removed.
set -euo pipefail
python=$1 folder=$2
shift 2
run=$folder/bin/python
# Python compiles a module when it is first imported; to compile all of them here would take longer and more space.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1
install=("$run" -m pip install --quiet --quiet --no-deps)

phase() { # TEXT COMMAND…
  local text=$1 start=$EPOCHREALTIME
  shift
  printf '%s ... ' "$text"
  "$@"
  awk -v start="$start" -v end="$EPOCHREALTIME" 'BEGIN { printf "%.1f s\n", end - start }'
}

names() { sed -nE 's/^([A-Za-z0-9][A-Za-z0-9._-]*).*/\1/p' | tr 'A-Z_.' 'a-z--' | sort -u; }

remove_others() {
  local others
  others=$(comm -23 <("$run" -m pip list --format freeze --exclude-editable | names) \
    <(cat "${locks[@]}" <(printf '%s\n' pip setuptools identity-registry identity-registry-client) | names))
  [ -z "$others" ] || xargs "$run" -m pip uninstall --quiet --yes <<<"$others"
}

locks=() files=() pictures=
for lock in "$@"; do
  if [ "$lock" = pictures ]; then
    pictures=requirements/pictures.lock
  else
    locks+=("requirements/$lock.lock")
    files+=(--requirement "requirements/$lock.lock")
  fi
done
if "$run" -m pip --version >/dev/null 2>&1; then
  phase "removing unneeded packages from $folder" remove_others
else
  rm -rf "$folder"
  phase "creating $folder" bash tools/virtualenv.sh "$python" "$folder"
fi
phase "installing $(cat "${locks[@]}" | names | wc -l) packages" "${install[@]}" --require-hashes "${files[@]}"
phase "installing identity-registry and its client" \
  "${install[@]}" --no-build-isolation --editable . --editable clients/python
if [ -n "$pictures" ]; then
  phase "installing packages with pictures of people for the demo" \
    "${install[@]}" --require-hashes --upgrade --target "$folder/share/pictures" --requirement "$pictures"
fi
