#!/usr/bin/env bash
# make-venv.sh PYTHON DIRECTORY: makes a virtual environment, unless a working one is there already.
# Debian's python3 comes without ensurepip; as root the missing package is installed, else its name is given.
set -euo pipefail

python="$1" directory="$2"

fail() {
    echo "make-venv: $1" >&2
    exit 1
}

if "$directory/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" ||
    fail "'$python' does not run; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "'$python' is Python $version, but 3.11 or newer is needed; name one: make PYTHON=/path/to/python3.11."

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package="python$version-venv"
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "'$python' cannot make virtual environments; install them first (Debian, Ubuntu: sudo apt-get install $package)."
    fi
    echo "make-venv: installing $package"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends "$package" >/dev/null
fi

"$python" -m venv --clear "$directory"
