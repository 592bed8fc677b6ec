#!/bin/bash
# Checks the readiness of a service on this machine. The image has no HTTP client, but bash can open sockets.
#
# usage: healthcheck ADMIN_PORT
set -euo pipefail

exec 3<>"/dev/tcp/127.0.0.1/${1:?usage: healthcheck ADMIN_PORT}"
printf 'GET /healthz/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
read -r -t 3 _ status _ <&3
[[ $status == 200 ]]
