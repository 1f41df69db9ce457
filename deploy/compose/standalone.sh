#!/bin/sh
# One container alone: PostgreSQL below the data folder, the models in the API's process, a first key at the first start.
set -eu
export REGISTRY_DATABASE__MIGRATE_ON_START=true
key=$REGISTRY_DATA_DIR/first-api-key
rm -f "$key.new"
python -m service keys create --if-none --name first --output "$key.new"
if [ -f "$key.new" ]; then
  mv -f "$key.new" "$key"
  echo "A first API key was made, good for everything. Read it once: docker exec CONTAINER sh -c 'cat $key && rm $key'"
fi
exec python -m service api
