#!/usr/bin/env bash
# Two rows of Table 2 on a GPU: n = 384, and n = 128 with DeFINE, on equal tokens.
#   runs/wikipedia_25m.sh WIKIPEDIA WIKITEXT_103 OUT [OPTIONS ...]
# WIKIPEDIA holds the training text; WIKITEXT_103 holds dict.txt(.xz), valid and test. Options are
# those of `define train`, such as --training.epochs 2 for a shorter run, and the same for both. Run
# it again to go on where it was stopped: within an epoch too, from the last checkpoint.
set -euo pipefail
data=$1 evaluation=$2 out=$3
shift 3
for vocabulary in "$evaluation"/dict.txt{,.xz,.gz}; do
    [ ! -f "$vocabulary" ] || break
done
mkdir -p "$out"

run() {
    name=$1
    shift
    [ -f "$out/$name/summary.json" ] ||
        define train wikipedia-25m --data.path "$data" --data.evaluation "$evaluation" \
            --data.vocabulary "$vocabulary" --run "$out/$name" --training.precision bf16-mixed \
            "$@" 2>&1 | tee -a "$out/$name.log"
}

run n128-DeFINE "$@"
run n384 --embedding AdaptiveEmbedding --embedding.cutoffs "[20000,40000,200000]" \
    --embedding.div_value 1 "$@"
define compare "$out"/{n128-DeFINE,n384} --figure "$out/comparison.png"
