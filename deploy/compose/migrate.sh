#!/bin/sh
# Migrates the schema, and creates a first API key if no valid key exists.
set -eu
identity-registry db upgrade
rm -f /first-key/new
identity-registry keys create --if-none --name first --output /first-key/new
if [ -f /first-key/new ]; then
  mv -f /first-key/new /first-key/api-key
  echo
  echo 'A first API key with all scopes was created. This command shows it once and deletes the file:'
  echo
  echo '    docker compose run --rm first-key'
  echo
fi
