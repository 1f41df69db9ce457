#!/bin/sh
# Makes one cluster of the coordinator $1 and the nodes after it. Calling it again with more nodes adds them.
set -eu
PGPASSWORD="$(cat "$PASSWORD_FILE")"
export PGPASSWORD PGUSER=registry PGDATABASE=registry
coordinator="$1"
for node in "$@"; do
  seconds=0
  until pg_isready --quiet --host "$node"; do
    seconds=$((seconds + 1))
    if [ "$seconds" -gt 120 ]; then echo "$node does not accept connections after 120 s" >&2; exit 1; fi
    sleep 1
  done
  psql --host "$node" --quiet --command 'CREATE EXTENSION IF NOT EXISTS citus'
done
shift
psql --host "$coordinator" --quiet --command "SELECT citus_set_coordinator_host('$coordinator', 5432)"
for node in "$@"; do
  psql --host "$coordinator" --quiet --command "SELECT citus_add_node('$node', 5432)"
done
