#!/usr/bin/env bash
# find-chromium.sh: prints the path of a Chromium for the browser tests; everything else goes to stderr.
# Takes $CHROMIUM or an installed one. As root on Debian it installs what is missing: Chromium itself, and the library
# that Playwright's driver needs. Otherwise it fails and says how to get it.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "find-chromium: $1" >&2
    exit 1
}

find_chromium() {
    local name
    for name in chromium chromium-browser google-chrome google-chrome-stable \
        "/Applications/Chromium.app/Contents/MacOS/Chromium" \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
        command -v "$name" && return 0
    done
    return 1
}

driver_runs() {
    .venv/bin/playwright --version >/dev/null 2>&1
}

if [ -n "${CHROMIUM:-}" ]; then
    chromium="$(command -v "$CHROMIUM")" ||
        fail "CHROMIUM='$CHROMIUM' is not a program; set it to the path of a Chromium or Chrome."
else
    chromium="$(find_chromium)" || chromium=""
fi

missing=()
[ -n "$chromium" ] || missing+=(chromium)
driver_runs || missing+=(libatomic1)

if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "the browser tests need ${missing[*]}; install it (Debian: sudo apt-get install ${missing[*]}), or name a Chromium that is elsewhere: make test CHROMIUM=/path/to/chromium."
    fi
    echo "find-chromium: installing ${missing[*]}" >&2
    {
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "${missing[@]}"
    } >/dev/null || fail "installing ${missing[*]} failed; the lines above say why."
    chromium="${chromium:-$(find_chromium)}" || fail "Chromium was installed, but it is not on the PATH; name it: CHROMIUM=/path/to/chromium."
    driver_runs || fail "Playwright's driver does not run; '.venv/bin/playwright --version' says why."
fi

echo "$chromium"
