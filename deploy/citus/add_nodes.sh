#!/bin/sh
# Makes one cluster of the coordinator $1 and the nodes after it. Calling it again with more nodes adds them.
set -eu
PGPASSWORD="$(cat "$PASSWORD_FILE")"
export PGPASSWORD PGUSER=registry PGDATABASE=registry
coordinator="$1"
for node in "$@"; do
  until pg_isready --quiet --host "$node"; do sleep 1; done
  psql --host "$node" --quiet --command 'CREATE EXTENSION IF NOT EXISTS citus'
done
shift
psql --host "$coordinator" --quiet --command "SELECT citus_set_coordinator_host('$coordinator', 5432)"
for node in "$@"; do
  psql --host "$coordinator" --quiet --command "SELECT citus_add_node('$node', 5432)"
done
