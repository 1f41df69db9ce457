#!/bin/sh
# The schema, and a first API key where there is none yet.
set -eu
alembic upgrade head
rm -f /first-key/new
python -m service keys create --if-none --name first --output /first-key/new
if [ -f /first-key/new ]; then
  mv -f /first-key/new /first-key/api-key
  echo
  echo 'A first API key was made, good for everything. Read it once; that deletes the file:'
  echo
  echo '    docker compose run --rm first-key'
  echo
fi
