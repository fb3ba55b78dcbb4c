#!/bin/sh
# Healthy: the broker accepts the service's credentials and answers.
exec mosquitto_sub -h 127.0.0.1 -p 1883 -u "$INSPECTOR_MQTT_USER" -P "$INSPECTOR_MQTT_PASSWORD" \
    -t '$SYS/broker/version' -C 1 -W 4
