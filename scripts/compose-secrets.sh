#!/usr/bin/env bash
# Makes the passwords of compose.yaml, at random and once: those that exist are kept.
#
# usage: compose-secrets.sh [FOLDER]    (none: deploy/secrets)
#
# A password of your own must not have characters that are special in a URL. Services run as other users in their containers, so that the files can be read by all; the folder can be entered by its owner only.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'compose-secrets: %s\n' "$*"; }

folder=${1:-deploy/secrets}
umask 022
mkdir -p "$folder"
chmod 700 "$folder"

# Makes the secret NAME if it does not exist, and prints it.
secret() {
    local file=$folder/$1 made
    if [[ ! -s $file ]]; then
        made=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
        [[ ${#made} == 48 ]] || { say "cannot make $file" >&2; exit 1; }
        printf '%s' "$made" >"$file.part"
        mv "$file.part" "$file"
        say "made $file" >&2
    fi
    [[ -f $file ]] || { say "$file is no file: remove it" >&2; exit 1; }
    cat "$file"
}

nats=$(secret nats_password)
s3=$(secret s3_secret)
secret postgres_password >/dev/null
# What the servers read follows from the passwords.
printf 'authorization { user: rekindle, password: "%s" }\n' "$nats" >"$folder/nats_authorization"
printf '{"identities": [{"name": "rekindle", "credentials": [{"accessKey": "rekindle", "secretKey": "%s"}], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}\n' \
    "$s3" >"$folder/s3_identities"
say "the secrets are in $folder"
