#!/bin/sh
# An example CA and a broker certificate for the host names given (default: localhost mosquitto), for trying
# TLS out. A plant has a CA of its own. Subscribers need certificates/ca.pem.
set -eu
cd "$(dirname "$0")"
mkdir -p certificates
cd certificates
names=""
for name in "${@:-localhost}" mosquitto; do names="$names${names:+,}DNS:$name"; done
curve="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# shellcheck disable=SC2086
openssl req -x509 $curve -keyout ca.key -out ca.pem -days 3650 -subj "/CN=Line Inspector example CA"
# shellcheck disable=SC2086
openssl req $curve -keyout broker.key -out broker.csr -subj "/CN=mosquitto"
printf 'subjectAltName=%s\n' "$names" >extensions
openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile extensions -out broker.pem
rm -f broker.csr extensions ca.srl
# The broker runs as its own user and reads its key through a read-only mount.
chmod 644 ca.pem broker.pem broker.key
chmod 600 ca.key
