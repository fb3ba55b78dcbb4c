#!/bin/bash
# Installs the outside programs that tests use; where it cannot, says which tests are skipped. Never fails.
set -euo pipefail

declare -A tests_of=(
    [mosquitto]="tests against a real broker, the crash trial (marker broker, trial)"
    [mosquitto-clients]="tests against a real broker (marker broker)"
    [openssl]="MQTT over TLS (marker broker)"
    [chromium]="the report in a real browser (marker browser)"
    [chromium-driver]="the report in a real browser (marker browser)"
    [tesseract-ocr]="reading the annotated visual back (marker ocr)"
    [tesseract-ocr-eng]="reading the annotated visual back (marker ocr)"
    [gstreamer1.0-tools]="the stream camera against a real RTSP server (marker rtsp)"
    [gstreamer1.0-plugins-base]="the stream camera against a real RTSP server (marker rtsp)"
    [gstreamer1.0-plugins-good]="the stream camera against a real RTSP server (marker rtsp)"
    [gstreamer1.0-plugins-bad]="the stream camera against a real RTSP server (marker rtsp)"
    [gstreamer1.0-plugins-ugly]="the stream camera against a real RTSP server (marker rtsp)"
    [gstreamer1.0-rtsp]="the stream camera against a real RTSP server (marker rtsp)"
    [gir1.2-gst-rtsp-server-1.0]="the stream camera against a real RTSP server (marker rtsp)"
    [strace]="that a commit reaches the disk (test_crash_trial.py)"
    [python3-gi]="the stream camera against a real RTSP server (marker rtsp)"
)

list_missing() {
    for package in "${!tests_of[@]}"; do
        if [[ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" != "install ok installed" ]]; then
            echo "$package"
        fi
    done | sort
}

say_skipped() {
    echo "Tests that will be skipped, because $1:"
    for package in $missing; do
        echo "  ${tests_of[$package]} needs $package"
    done
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "This is not a Debian system: tests whose outside programs are missing are skipped, each with its reason."
    exit 0
fi
missing="$(list_missing)"
if [[ -z "$missing" ]]; then exit 0; fi

sudo=()
if [[ $EUID -ne 0 ]]; then
    if ! sudo -n true 2>/dev/null; then
        say_skipped "this is neither root nor an account with password-less sudo"
        echo "To run them too: apt-get install $(echo $missing)"
        exit 0
    fi
    sudo=(sudo -n)
fi

echo "Installing Debian packages for the tests:" $missing
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
install() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1; }
if "${sudo[@]}" apt-get update -qq >"$log" 2>&1 && install $missing; then exit 0; fi
# One that cannot be had must not keep the others away.
for package in $missing; do
    install "$package" || tail -n 1 "$log"
done
missing="$(list_missing)"
if [[ -n "$missing" ]]; then say_skipped "apt-get could not install a package (above)"; fi
