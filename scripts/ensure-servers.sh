#!/bin/sh
# Installs the real servers that tests run against and that no Python package brings: Ceph RGW, nginx, OpenSSH and
# PostgreSQL, Kerberos (Debian), Azurite (npm), OpenStack Swift (an environment of its own) and HDFS (jars of an old PySpark, and of Debian).
# Idempotent; returns at once when all is there. SeaweedFS and the GCS emulator come with the development lock.
set -eu
cd "$(dirname "$0")/.."

wanted="ceph-mon ceph-osd radosgw ceph-common nginx-light chromium strace slowhttptest fuse3 openssh-server postgresql liberasurecode1 memcached"
wanted="$wanted openjdk-17-jre-headless krb5-kdc krb5-admin-server libjersey1-core-java libjersey1-server-java libjersey1-servlet-java"
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

if [ ! -x .servers/swift/bin/swift-proxy-server ]; then
    mkdir -p .servers
    "${PYTHON:-python3}" -m venv .servers/swift
    .servers/swift/bin/python -m pip install -q 'swift==2.38.3' 'setuptools<81' >/dev/null
fi

# PySpark 2.4.8 carries Hadoop 2.7.3 with its servers: the last release on PyPI that does. Only the jars that they need are kept.
hadoop=.servers/hadoop-2.7.3
if [ ! -d "$hadoop" ]; then
    fetched=$(mktemp -d)
    echo 'pypandoc<1.5' >"$fetched/constraints.txt" # its set-up fails with newer ones
    PIP_CONSTRAINT=$fetched/constraints.txt "${PYTHON:-python3}" -m pip download -q --no-deps -d "$fetched" pyspark==2.4.8 >/dev/null
    mkdir -p "$fetched/jars"
    tar xzf "$fetched/pyspark-2.4.8.tar.gz" -C "$fetched/jars" --strip-components=3 --wildcards '*/deps/jars/*.jar'
    mkdir -p "$hadoop.part"
    for jar in hadoop- htrace-core- commons- guava-14 jackson-core-asl jackson-mapper-asl javax.servlet-api jetty- jsp-api leveldbjni \
        log4j-1 netty- protobuf-java-2 slf4j- xercesImpl xmlenc zookeeper- activation httpclient httpcore gson api-util api-asn1 \
        apacheds curator avro-1.8 snappy-java jaxb-api; do
        for file in "$fetched/jars/$jar"*.jar; do
            [ ! -e "$file" ] || mv "$file" "$hadoop.part/"
        done
    done
    rm -rf "$fetched"
    mv "$hadoop.part" "$hadoop"
fi
