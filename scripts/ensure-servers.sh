#!/bin/sh
# Installs the real servers that tests run against and that no Python package brings: Ceph RGW (Debian) and Azurite (npm).
# Idempotent; returns at once when all is there. SeaweedFS and the GCS emulator come with the development lock.
set -eu
cd "$(dirname "$0")/.."

wanted="ceph-mon ceph-osd radosgw ceph-common nginx-light chromium strace slowhttptest fuse3"
[ "${1:-}" = bench ] && wanted="$wanted wrk"
missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ]; then
        echo "ensure-servers: not root, so the tests that need these are skipped:$missing" >&2
        missing=""
    fi
fi
if [ -n "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    # A policy script that says no keeps Debian from starting the daemons: tests start their own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends $missing >/dev/null || {
        apt-get update -q >/dev/null
        apt-get install -y -q --no-install-recommends $missing >/dev/null
    }
fi

if [ ! -x .servers/node_modules/.bin/azurite ]; then
    mkdir -p .servers
    npm install --prefix .servers --no-audit --no-fund --no-save --loglevel=error azurite@3.35.0 >/dev/null
fi
