#!/bin/sh
# Run once by the database's image when its volume is empty: one database for each service that keeps one.
set -eu

for service in registry monitor orchestrator; do
    createdb --username "$POSTGRES_USER" "$service"
done
