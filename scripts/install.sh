#!/usr/bin/env bash
# Makes the environment: install.sh VENV STAMP. PYTHON names the interpreter to make it with.
# The stamp is written last, so an interrupted installation is taken up again.
set -euo pipefail

venv=$1
stamp=$2
python=${PYTHON:-python3}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    if ! command -v "$python" >/dev/null; then
        echo "PYTHON=$python: not found; install Python 3.11, or name it: make PYTHON=/path/to/python3.11" >&2
        exit 1
    fi
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "PYTHON=$python: $("$python" --version), but 3.11 or newer is needed; name another one:" \
            "make PYTHON=/path/to/python3.11" >&2
        exit 1
    fi
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "PYTHON=$python: has no venv module; install it (Debian: apt-get install python3-venv)" >&2
        exit 1
    fi
    echo "environment: making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi

echo "environment: installing the pinned packages into $venv (first time: about 6 GB, some minutes)"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
# Byte code is left to the first import: most of 16,000 modules are never imported.
# The lock is complete, hence --no-deps: resolving it anew would trip over the next release of a package
# that another one asks for with an extra.
"${pip[@]}" install --progress-bar on --no-compile --use-pep517 --no-deps --require-hashes -r requirements/lock.txt
"${pip[@]}" install --progress-bar on --no-compile --no-deps -e . -e examples/movie-reviews
"${pip[@]}" check

rm -f "$venv"/.installed-*
touch "$stamp"
