#!/bin/sh
# A single container: embedded PostgreSQL in the data folder, models in the API's process, a first key at the first start.
set -eu
export REGISTRY_DATABASE__MIGRATE_ON_START=true
key=$REGISTRY_DATA_DIR/first-api-key
rm -f "$key.new"
identity-registry keys create --if-none --name first --output "$key.new"
if [ -f "$key.new" ]; then
  mv -f "$key.new" "$key"
  echo "A first API key with all scopes was created. Read and delete it: docker exec CONTAINER sh -c 'cat $key && rm $key'"
fi
exec identity-registry serve
