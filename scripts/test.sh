#!/usr/bin/env bash
# Runs make targets one after the other, all of them, and sums up: test.sh TARGET...
set -uo pipefail

notes=$(mktemp)
trap 'rm -f "$notes"' EXIT
summary=()
failed=0
total=$#
number=0

for target in "$@"; do
    number=$((number + 1))
    printf '\n=== [%d/%d] make %s\n' "$number" "$total" "$target"
    : >"$notes"
    start=$SECONDS
    if RLHF_TEST_NOTES=$notes ${MAKE:-make} --no-print-directory "$target"; then
        state=passed
    else
        state=FAILED
        failed=1
    fi
    summary+=("$(printf '%-14s %-6s %4d s' "$target" "$state" $((SECONDS - start)))")
    while read -r line; do
        summary+=("    left out: $line")
    done <"$notes"
done

printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
