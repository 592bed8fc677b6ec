#!/bin/sh
# Run once by the image when its volume is empty: creates one database for each service that has one.
set -eu

for service in registry monitor orchestrator; do
    createdb --username "$POSTGRES_USER" "$service"
done
