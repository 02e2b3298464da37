#!/usr/bin/env bash
# Sets up .venv and checks Java; run by `make install`. ACCELERATOR=cuda: with FBGEMM's kernels for CUDA
# (default: what .venv was made for, else cpu).
# With `lock`: resolves requirements.in anew, for both.
set -euo pipefail
cd "$(dirname "$0")/../.."
requirements=infra/requirements
uv_version=0.13.9
made_for=$(cat .venv/.accelerator 2>/dev/null || true)
accelerator=${ACCELERATOR:-${made_for:-cpu}}

say() { printf '%s\n' "$*" >&2; }

find_python() {
    for name in ${PYTHON:-} python3.11 python3.12 python3; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in {(3, 11), (3, 12)})' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "error: no Python 3.11 or 3.12 with venv was found. On Debian or Ubuntu type:"
    say "    sudo apt-get install python3.11 python3.11-venv      (or python3.12 python3.12-venv)"
    say "or, where another one is installed:  make install PYTHON=/path/to/python3.12"
    exit 1
}

java_major() {
    local java=${JAVA_HOME:+$JAVA_HOME/bin/}java
    command -v "$java" >/dev/null || { echo 0; return; }
    "$java" -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p;T;q'
}

check_java() {
    [ "$(java_major)" -ge 17 ] 2>/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing a headless Java runtime, which Spark needs"
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless >&2
        unset JAVA_HOME
        [ "$(java_major)" -ge 17 ] 2>/dev/null && return
    fi
    say "error: Java 17 or newer is needed (found: $(java_major)). On Debian or Ubuntu type:"
    say "    sudo apt-get install default-jre-headless"
    say "or set JAVA_HOME to a runtime of 17 or newer."
    exit 1
}

# What some tests need and nothing else does: they skip where it is missing.
offer() { # COMMAND PACKAGE TESTS
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "no $1 was found: $3 will skip. On Debian or Ubuntu type:"
        say "    sudo apt-get install $2"
        return
    fi
    say "installing $2 for $3"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2"; } >&2 ||
        say "there is no $2 to be had: $3 will skip"
}

# The package starts a service of its name, which nobody asked for; tests start what they need, on other ports.
offer_without_service() { # COMMAND PACKAGE TESTS
    command -v "$1" >/dev/null && return
    offer "$@"
    if [ "$(id -u)" = 0 ]; then
        systemctl disable --quiet --now "$2" 2>/dev/null || service "$2" stop >/dev/null 2>&1 || true
    fi
}

# uv does not read pip's configuration; a folder of wheels that pip is set up with counts here too.
find_links() {
    .venv/bin/python -m pip config list 2>/dev/null |
        sed -nE "s/^(global|install|:env:)\.find-links='(.*)'$/\2/p" | tr ' ' '\n' | sort -u | paste -sd, -
}

# The same on every machine: from the index alone, whose torch is the CUDA build, and no folder of wheels.
# CUDA first; then the CPU, held to the same versions and without what the CUDA build of torch brings; then the images.
lock() {
    local cuda=$requirements/requirements-cuda.txt brought
    brought=$(mktemp)
    compile "$requirements/cuda.in" --output-file "$cuda"
    sed -nE 's/^((nvidia-|cuda-)[a-z0-9-]+|triton)==.*/\1/p' "$cuda" >"$brought"
    compile "$requirements/cpu.in" --output-file "$requirements/requirements.txt" --constraint "$cuda" \
        --excludes "$requirements/excludes-cpu.txt" --excludes "$brought"
    rm "$brought"
    .venv/bin/python -m infra.images.locks
}

compile() {
    UV_FIND_LINKS= .venv/bin/uv pip compile "$requirements/requirements.in" "$@" --overrides "$requirements/overrides.txt" \
        --python-version 3.11 --universal --no-annotate --no-header --quiet >/dev/null
}

# The CPU's environment takes a CPU build of torch from a folder of wheels, where pip is set up with one. The index's build
# runs without a GPU too, and brings CUDA's libraries: requirements-cuda.txt pins those.
install() {
    local options=(--requirements "$requirements/requirements-cuda.txt")
    if [ "$accelerator" = cpu ]; then
        options=(--requirements "$requirements/requirements.txt" --constraint "$requirements/requirements-cuda.txt"
            --excludes "$requirements/excludes-cpu.txt")
        export UV_FIND_LINKS=${UV_FIND_LINKS-$(find_links)}
    fi
    say "installing $(grep -c == "${options[1]}") pinned packages for $accelerator into .venv (a minute or two the first time)"
    .venv/bin/uv pip install --quiet --python .venv/bin/python "${options[@]}" --overrides "$requirements/overrides.txt"
    .venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
}

# Both builds of FBGEMM are one module, so an environment is for one accelerator from its start.
choose_accelerator() {
    case $accelerator in
    cpu | cuda) ;;
    *)
        say "error: ACCELERATOR is '$accelerator'; it must be cpu or cuda"
        exit 1
        ;;
    esac
    if [ "${made_for:-$accelerator}" != "$accelerator" ]; then
        say ".venv was made for $made_for: making it anew for $accelerator"
        rm -rf .venv
    fi
}

# Not an error: an image may be made where there is no GPU.
check_driver() {
    [ "$accelerator" = cuda ] || return 0
    PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep libnvidia-ml.so.1 >/dev/null ||
        say "no NVIDIA driver was found (libnvidia-ml.so.1): FBGEMM's kernels for CUDA will not load on this machine"
}

choose_accelerator
check_driver
check_java
offer_without_service redis-server redis-server "the tests of the Redis store"
offer_without_service promtool prometheus "the tests of the alerting rules"
offer chromium chromium "the test of the pages in a browser"
offer ip iproute2 "the test of a training over two hosts"
if [ ! -x .venv/bin/uv ]; then
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
    say "installing uv $uv_version"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
fi
export UV_LINK_MODE=${UV_LINK_MODE:-copy}

if [ "${1:-}" = lock ]; then
    lock
    exit
fi

echo "$accelerator" >.venv/.accelerator
install
# Compiled once here: each of a day's processes imports thousands of modules, and where Python may
# write no caches it would compile them all again. Some packages carry files that do not compile, and
# two fifths of all files are tests and Plotly's classes, a module each: those are compiled when used.
PYTHONDONTWRITEBYTECODE= .venv/bin/python -m compileall -q -j 0 -x '/tests?/|/plotly/' .venv/lib/python*/site-packages >/dev/null 2>&1 || true
# An archive that could not be written only costs time, at each start of Spark.
.venv/bin/python -m infra.local.spark_class_archive >/dev/null || say "Spark will start without shared classes"
touch .venv/.installed
