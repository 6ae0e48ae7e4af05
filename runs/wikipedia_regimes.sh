#!/usr/bin/env bash
# Which embedding is best at 267,735 words after 25 M tokens, on a GPU:
#   runs/wikipedia_regimes.sh WIKIPEDIA WIKITEXT_103 OUT < LINES
# WIKIPEDIA holds the training text; WIKITEXT_103 holds dict.txt.xz, valid and test. Each line that
# it reads is one run: arguments of runs/regimes.py after the regime's name. JOBS (6) of them run at
# a time; results go to OUT/regimes.jsonl, and what is there is not run again.
set -euo pipefail
data=$1 evaluation=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
export data evaluation out here
run() {
    regime=$1
    shift
    "${PYTHON:-python}" "$here/regimes.py" "$regime" --data "$data" --evaluation "$evaluation" \
        --vocabulary "$evaluation/dict.txt.xz" --no_search --device "${DEVICE:-cuda}" \
        --checkpoints "$out/checkpoints" --results "$out/regimes.jsonl" "$@" \
        >>"$out/regimes.log" 2>&1 || {
        echo "failed: $regime $*: $out/regimes.log" >&2
        return 1
    }
}
export -f run
xargs -P "${JOBS:-6}" -I '{}' bash -c 'run {}'
