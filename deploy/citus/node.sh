#!/bin/sh
# Starts the server of a node. It logs in on the other nodes as the owner of the tables and as registry_app, with the
# passwords of these files.
set -eu
passwords=/tmp/passwords
escaped() { sed 's/[\\:]/\\&/g' "$1"; } # in a file of passwords a backslash precedes these characters
install -m 600 /dev/null "$passwords"
printf '*:*:*:registry:%s\n*:*:*:registry_app:%s\n' "$(escaped "$PASSWORD_FILE")" "$(escaped "$APP_PASSWORD_FILE")" > "$passwords"
if [ "$(id -u)" = 0 ]; then chown postgres "$passwords"; fi
export PGPASSFILE="$passwords" POSTGRES_PASSWORD_FILE="$PASSWORD_FILE"
export HOME=/var/lib/postgresql # libpq looks for certificates there
exec docker-entrypoint.sh "$@" \
  -cshared_preload_libraries=citus -cwal_level=logical -cmax_prepared_transactions=200 -cmax_connections=200 \
  -ccitus.node_connection_timeout=2000 # ms
