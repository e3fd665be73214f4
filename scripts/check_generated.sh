#!/usr/bin/env bash
# Fails if generated files differ from what git knows, or are new to it: check_generated.sh PATH...
set -euo pipefail

if ! git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    echo "verify: not a git checkout, so there is nothing to compare generated files with" >&2
    exit 1
fi
if ! git diff --exit-code -- "$@"; then
    echo "verify: the generated files above were out of date; they are right now: commit them" >&2
    exit 1
fi
untracked=$(git ls-files --others --exclude-standard -- "$@")
if [[ -n $untracked ]]; then
    printf 'verify: generated but unknown to git; add them:\n%s\n' "$untracked" >&2
    exit 1
fi
