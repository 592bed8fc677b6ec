#!/usr/bin/env bash
# Runs compose.yaml for real, on a machine without an image registry: the images are made of Debian's packages and of the tools of the tests, and
# tagged as compose.yaml names them. Then the whole story runs through the proxy, from outside of the containers: register, train, promote,
# deploy, replay, drift, a redeployment under load, and `down` and `up` again.
#
# usage: compose-check.sh PROGRAM [FOLDER]
#
# Needs root and Debian: Docker's engine, docker-compose and debootstrap are installed if they are absent. The engine has a network and a
# folder of its own (FOLDER, by default target/compose-check; 2 GB) and ends with this script. KEEP=1 leaves it running; SKIPPED=0 is the exit
# status where it cannot run.
set -euo pipefail
[[ -x "${1:-}" ]] || { echo "usage: compose-check.sh PROGRAM [FOLDER] (no program at '${1:-}')" >&2; exit 2; }
program=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
work=$(realpath --canonicalize-missing "${2:-target/compose-check}")
tools=$PWD/.tools
flights=$PWD/deploy/demo/flights_2013.parquet

say() { printf 'compose-check: %s\n' "$*"; }
skip() { say "skipped: $*"; exit "${SKIPPED:-1}"; }
fail() { say "FAILED: $*"; exit 1; }

[[ $(id -u) == 0 ]] || skip "it needs root"
[[ -e /etc/debian_version ]] || skip "it needs Debian"
packages=()
for pair in dockerd:docker.io docker-compose:docker-compose debootstrap:debootstrap iptables:iptables ip:iproute2 strip:binutils curl:curl; do
    command -v "${pair%%:*}" >/dev/null || packages+=("${pair##*:}")
done
if [[ ${#packages[@]} -gt 0 ]]; then
    say "installing ${packages[*]}"
    # The engine of the system is not to be started.
    [[ -e /usr/sbin/policy-rc.d ]] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d && policy=made; }
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null ||
        skip "${packages[*]} cannot be installed"
    [[ -z ${policy:-} ]] || rm -f /usr/sbin/policy-rc.d
fi
mkdir -p "$work"

# --- the engine, in a network of its own

export DOCKER_HOST=unix://$work/docker.sock DOCKER_BUILDKIT=0 COMPOSE_HTTP_TIMEOUT=300
engine=

stop_engine() {
    local status=$?
    if [[ -n ${KEEP:-} ]]; then
        say "the engine is left running: export DOCKER_HOST=$DOCKER_HOST; nsenter --target $engine --net"
        return
    fi
    [[ $status == 0 ]] || compose logs --no-color --tail 50 >"$work/logs.txt" 2>&1 || true
    [[ $status == 0 ]] || say "the latest lines of every log are in $work/logs.txt"
    # The next run starts with nothing.
    compose down -v --timeout 10 >/dev/null 2>&1 || true
    docker volume prune --force >/dev/null 2>&1 || true
    [[ -z $engine ]] || { kill "$engine" 2>/dev/null && wait "$engine" 2>/dev/null || true; }
}

compose() {
    docker-compose --file "$work/compose.yaml" --project-directory "$root" --project-name rekindle "$@"
}

outside() { nsenter --target "$engine" --net -- "$@"; }

if [[ -s $work/docker.pid ]] && kill -0 "$(cat "$work/docker.pid")" 2>/dev/null; then
    fail "an engine runs in $work already: end process $(cat "$work/docker.pid") first"
fi
rm -f "$work/docker.pid"
trap stop_engine EXIT
unshare --net --mount sh -c 'ip link set lo up && exec dockerd "$@"' sh --host "$DOCKER_HOST" --data-root "$work/docker" \
    --exec-root "$work/exec" --pidfile "$work/docker.pid" --storage-driver overlay2 >"$work/dockerd.log" 2>&1 &
engine=$!
for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || { tail -n 3 "$work/dockerd.log"; skip "Docker's engine does not start here"; }
    sleep 1
done
docker info >/dev/null 2>&1 || skip "Docker's engine does not answer"
say "Docker $(docker version --format '{{.Server.Version}}') is running"

# --- images

# Debian with what the servers need, kept for the next run.
base=$tools/compose-base-1.tar
if [[ ! -e $base ]]; then
    say "making the base image with debootstrap"
    debian=$work/root
    rm -rf "$debian"
    debootstrap --variant=minbase --include=bash,ca-certificates,wget bookworm "$debian" >"$work/debootstrap.log"
    # No server is to be started in the folder.
    printf '#!/bin/sh\nexit 101\n' >"$debian/usr/sbin/policy-rc.d"
    chmod +x "$debian/usr/sbin/policy-rc.d"
    cp /etc/resolv.conf "$debian/etc/resolv.conf"
    DEBIAN_FRONTEND=noninteractive chroot "$debian" apt-get install -y -qq --no-install-recommends postgresql >>"$work/debootstrap.log" 2>&1
    rm -rf "$debian"/var/cache/apt/archives/*.deb "$debian"/var/lib/apt/lists/* "$debian/usr/sbin/policy-rc.d" "$debian/etc/resolv.conf"
    tar --create --directory "$debian" --file "$base.part" .
    mv "$base.part" "$base"
    rm -rf "$debian"
fi
docker image inspect rekindle-base >/dev/null 2>&1 || docker import "$base" rekindle-base >/dev/null

# Builds an image: image TAG, with the folder $work/context and a Dockerfile from standard input.
image() { docker build --quiet --tag "$1" --file - "$work/context" >"$work/image.log" 2>&1 || { cat "$work/image.log"; fail "the image $1"; }; }

tag() { sed -n "s/^ *image: \($1.*\)/\1/p" compose.yaml; }

rm -rf "$work/context"
mkdir -p "$work/context"
cp --dereference "$tools/bin/nats-server" "$tools/bin/weed" "$tools/bin/envoy" "$tools/lib/libonnxruntime.so" deploy/healthcheck.sh "$work/context"
strip --output-target=elf64-x86-64 -o "$work/context/rekindle" "$program" 2>/dev/null || cp "$program" "$work/context/rekindle"
say "the stripped program has $(stat --format %s "$work/context/rekindle") bytes"
# As the entry point of the image of PostgreSQL: a database in the volume, made once, with the scripts beside.
cat >"$work/context/postgres.sh" <<'SCRIPT'
#!/bin/bash
set -euo pipefail
export PGDATA=/var/lib/postgresql/data/pgdata PATH=/usr/lib/postgresql/15/bin:$PATH
if [[ $(id -u) == 0 ]]; then
    chown postgres /var/lib/postgresql/data /var/run/postgresql
    exec setpriv --reuid postgres --regid postgres --init-groups "$0"
fi
if [[ ! -s $PGDATA/PG_VERSION ]]; then
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-host=scram-sha-256 --auth-local=trust >/dev/null
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --options='-c listen_addresses=' start >/dev/null
    for script in /docker-entrypoint-initdb.d/*.sh; do bash "$script"; done
    pg_ctl --wait stop >/dev/null
fi
exec postgres -c listen_addresses='*'
SCRIPT
chmod +x "$work"/context/*
image "$(tag nats)" <<'DOCKERFILE'
FROM rekindle-base
COPY nats-server /usr/local/bin/
ENTRYPOINT ["nats-server"]
DOCKERFILE
image "$(tag chrislusf)" <<'DOCKERFILE'
FROM rekindle-base
COPY weed /usr/local/bin/
ENTRYPOINT ["weed"]
DOCKERFILE
image "$(tag envoyproxy)" <<'DOCKERFILE'
FROM rekindle-base
COPY envoy /usr/local/bin/
ENTRYPOINT ["envoy"]
DOCKERFILE
image "$(tag postgres)" <<'DOCKERFILE'
FROM rekindle-base
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY postgres.sh /usr/local/bin/
ENTRYPOINT ["postgres.sh"]
DOCKERFILE
# The last stage of deploy/Dockerfile, its programs from the folder instead of other stages.
sed -n '/^FROM debian/,$p' deploy/Dockerfile |
    sed -e 's/^FROM .*/FROM rekindle-base/' -e 's/^COPY --from=build [^ ]*/COPY rekindle/' \
        -e 's/^COPY --from=onnx [^ ]*/COPY libonnxruntime.so/' -e 's/^COPY --chmod=755 deploy\//COPY /' \
        -e 's/^RUN apt-get update.*/RUN true \\/' -e '/apt-get install/d' -e '/rm -rf \/var\/lib\/apt/d' |
    image "$(tag rekindle)"
say "the images are made"

# --- the platform

scripts/compose-secrets.sh "$work/secrets" >/dev/null
# The old docker-compose of Debian takes no name.
sed -e '/^name:/d' -e "s#\./deploy/secrets#$work/secrets#" compose.yaml >"$work/compose.yaml"
compose down -v >/dev/null 2>&1 || true

healthy() {
    local states
    for _ in $(seq 150); do
        states=$(docker ps --all --format '{{.Names}} {{.Status}}')
        grep -vq '(healthy)' <<<"$states" || return 0
        sleep 1
    done
    printf '%s\n' "$states"
    fail "not every container is healthy"
}

export REKINDLE_ADDRESS=http://127.0.0.1:7000
rekindle() { outside "$program" "$@"; }
up() {
    local began=$SECONDS
    compose up -d --no-build --scale inference=3 >"$work/up.log" 2>&1 || { tail -n 5 "$work/up.log"; fail "docker-compose up"; }
    healthy
    rekindle status --wait --timeout 60s >"$work/status.txt" || fail "rekindle status --wait"
    say "$(docker ps --quiet | wc -l) containers are healthy after $((SECONDS - began)) s"
}
up

# --- the story, through the proxy

# The requests of the latest replay.
counted() { awk '/requests:/ { printf "%s requests, ", $2 } /failed:/ { printf "%s failed\n", $2 }' replay.txt; }

cd "$work"
rekindle dataset register flights "$flights" --time timestamp >register.txt
train() {
    rekindle train flights --target late --ignore flight_id,flight_no,arr_delay --model late --architecture mlp --wait "$@" >train.txt
}
train --until 2013-04-01
rekindle promote late 1 --why "first model" >/dev/null
rekindle deploy late --wait --why "first model" >/dev/null
replicas() { rekindle replicas --json | grep -c '"incarnation"' || true; }
[[ $(replicas) == 3 ]] || fail "$(replicas) replicas instead of 3"
say "3 replicas serve version 1"
outside curl --fail --silent --show-error http://127.0.0.1:8000/v2/models/late >metadata.json || fail "REST through the proxy"
outside curl --fail --silent --show-error http://127.0.0.1:5000/health >/dev/null || fail "MLflow's API through the proxy"
rekindle policy set late --window 7d --label-wait 1d >/dev/null

train --until 2013-05-01
rekindle promote late 2 --why "a month later" >/dev/null
rekindle replay "$flights" --model late --time timestamp --target late --label-delay 1d --from 2013-05-01 --until 2013-06-01 --rate 400 >replay.txt &
replay=$!
sleep 10
rekindle deploy late --wait --why "redeployment under load" >deploy.txt
kill -0 "$replay" 2>/dev/null || fail "the replay ended before the redeployment"
compose up -d --no-build --no-recreate --scale inference=4 >scale.log 2>&1 || fail "docker-compose up --scale inference=4"
wait "$replay" || { cat replay.txt; fail "requests failed"; }
say "redeployed under load: $(counted)"
healthy
# The new replica gets its share without a restart of the proxy.
for _ in $(seq 30); do
    rekindle replay "$flights" --model late --time timestamp --from 2013-06-01 --until 2013-06-02 --rate 400 >more.txt || fail "requests failed"
    [[ $(rekindle replicas --json | grep -c '"answered": "0"' || true) == 0 && $(replicas) == 4 ]] && break
    sleep 1
done
[[ $(replicas) == 4 ]] || fail "$(replicas) replicas instead of 4"
[[ $(rekindle replicas --json | grep -c '"answered": "0"' || true) == 0 ]] || { rekindle replicas; fail "a replica gets no requests"; }
say "the fourth replica answers, too"

# Windows that are measured: with the verdict of their drift.
windows() { rekindle reports late --json | grep -c '"drift": "VERDICT_' || true; }
for _ in $(seq 60); do
    [[ $(windows) -ge 4 ]] && break
    sleep 2
done
[[ $(windows) -ge 4 ]] || fail "$(windows) windows are measured"
say "$(windows) windows are measured"

# --- down and up again

state() {
    rekindle dataset list --json
    rekindle models list --json
    rekindle runs list --json
    rekindle models show late --json
}
rekindle audit verify >/dev/null || fail "the audit trail"
state >before.txt
compose down >/dev/null 2>&1
say "down"
up
state >after.txt
rekindle audit verify >/dev/null || fail "the audit trail"
cmp before.txt after.txt || fail "the registry differs after down and up"
# Replicas have new names and empty caches: they load what the routes say.
rekindle deployments show late --json >deployment.json
grep -q '"version": 2' deployment.json || fail "version 2 is not the stable one"
rekindle replay "$flights" --model late --time timestamp --target late --label-delay 1d --from 2013-06-01 --until 2013-06-08 --rate 400 >replay.txt ||
    fail "requests failed after up"
say "nothing is lost, and the platform continues: $(counted)"
say "passed in $SECONDS s"
