#!/bin/sh
# Writes the password file from the environment, adds TLS when there are certificates, starts the broker.
set -eu
umask 077
: >/mosquitto/data/passwords
mosquitto_passwd -b /mosquitto/data/passwords "$INSPECTOR_MQTT_USER" "$INSPECTOR_MQTT_PASSWORD"
cp /mosquitto/config/mosquitto.conf /mosquitto/data/mosquitto.conf
if [ -f /mosquitto/config/certificates/broker.pem ]; then
    cat /mosquitto/config/tls.conf >>/mosquitto/data/mosquitto.conf
fi
if [ "$(id -u)" = 0 ]; then chown -R mosquitto:mosquitto /mosquitto/data; fi
exec mosquitto -c /mosquitto/data/mosquitto.conf
