#!/usr/bin/env bash
# Sets up .venv and checks Java; run by `make install`. With `lock`: resolves requirements.in anew.
set -euo pipefail
cd "$(dirname "$0")/../.."
requirements=infra/requirements
uv_version=0.13.9

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

# For the Redis store's tests and the bench of the endpoint; they skip where there is none.
offer_redis() {
    command -v redis-server >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing redis-server, which tests start on ports of their own"
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; } >&2 ||
            { say "there is no redis-server to be had; the tests of the Redis store will skip"; return; }
        # The package starts a service, which nobody asked for.
        systemctl disable --quiet --now redis-server 2>/dev/null || service redis-server stop >/dev/null 2>&1 || true
    else
        say "no redis-server was found: the tests of the Redis store will skip. On Debian or Ubuntu type:"
        say "    sudo apt-get install redis-server"
    fi
}

# uv does not read pip's configuration; a folder of wheels that pip is set up with counts here too.
find_links() {
    .venv/bin/python -m pip config list 2>/dev/null |
        sed -nE "s/^(global|install|:env:)\.find-links='(.*)'$/\2/p" | tr ' ' '\n' | sort -u | paste -sd, -
}

check_java
offer_redis
if [ ! -x .venv/bin/uv ]; then
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
    say "installing uv $uv_version"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
fi
links=$(find_links)
export UV_FIND_LINKS=${UV_FIND_LINKS:-$links} UV_LINK_MODE=${UV_LINK_MODE:-copy}

if [ "${1:-}" = lock ]; then
    .venv/bin/uv pip compile "$requirements/requirements.in" --overrides "$requirements/overrides.txt" \
        --output-file "$requirements/requirements.txt" --python-version 3.11 --universal \
        --no-annotate --no-header --no-emit-find-links --quiet >/dev/null
    # A local build of torch serves here; elsewhere the index has the same version without the suffix.
    sed -i -E 's/^(torch==[^+ ]*)\+[a-z0-9]+/\1/' "$requirements/requirements.txt"
    exit
fi

say "installing $(grep -c == "$requirements/requirements.txt") pinned packages into .venv (a minute or two the first time)"
.venv/bin/uv pip install --quiet --python .venv/bin/python \
    --requirements "$requirements/requirements.txt" --overrides "$requirements/overrides.txt"
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
# Compiled once here: each of a day's processes imports thousands of modules, and where Python may
# write no caches it would compile them all again. Some packages carry files that do not compile.
PYTHONDONTWRITEBYTECODE= .venv/bin/python -m compileall -q -j 0 .venv/lib/python*/site-packages >/dev/null 2>&1 || true
# An archive that could not be written only costs time, at each start of Spark.
.venv/bin/python infra/local/share_classes.py >/dev/null || say "Spark will start without shared classes"
touch .venv/.installed
