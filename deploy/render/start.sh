#!/bin/sh
# Starts the registry on Render: migrates the schema, prints a first API key to the log once, and serves.
set -eu
export REGISTRY_DATABASE__URL="postgresql+psycopg://${DATABASE_URL#*://}"
identity-registry db upgrade
identity-registry keys create --if-none --name first
exec identity-registry serve
