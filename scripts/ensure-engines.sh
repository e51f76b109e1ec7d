#!/usr/bin/env bash
# Set up the environments of groups of engines under .servers/engines; quick when they are there.
set -euo pipefail
cd "$(dirname "$0")/.."
for group in "$@"; do
  venv=.servers/engines/$group
  mkdir -p .servers/engines
  scripts/ensure-venv.sh "engines/$group" "$venv"
  # No wheel of PySpark brings the S3A connector; an old one of another project carries it and the SDK that it needs.
  if [ "$group" = spark ] && [ ! -d "$venv/s3a" ]; then
    fetched=$(mktemp -d)
    "$venv/bin/python" -m pip download -q --no-deps -d "$fetched" sagemaker_pyspark==1.4.5 >/dev/null
    mkdir -p "$venv/s3a.part"
    tar xzf "$fetched"/sagemaker_pyspark-*.tar.gz -C "$venv/s3a.part" --transform 's|.*/||' --wildcards \
      '*/hadoop-aws-3.3.1.jar' '*/aws-java-sdk-bundle-1.11.901.jar'
    [ -s "$venv/s3a.part/hadoop-aws-3.3.1.jar" ]
    rm -rf "$fetched"
    mv "$venv/s3a.part" "$venv/s3a"
  fi
done
