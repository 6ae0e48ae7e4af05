#!/usr/bin/env bash
# The penn-treebank-small recipe with standard, projected and DeFINE embeddings, two seeds each.
#   benchmarks/penn_treebank.sh DATA OUT [PROCESSES]
# Run it again to go on where it was stopped.
set -eu
export data=$1 out=$2 OMP_NUM_THREADS=1
mkdir -p "$out"
{
    printf 'standard-%s --embedding torch.nn.Embedding --seed %s\n' 1 1 2 2
    printf 'projected-%s --embedding ProjectedEmbedding --embedding.map 96 --seed %s\n' 1 1 2 2
    printf 'DeFINE-%s --embedding DeFINE --seed %s\n' 1 1 2 2
} | xargs -P "${3:-2}" -L 1 bash -c '
    [ -f "$out/$0/summary.json" ] ||
        define train penn-treebank-small --data.path "$data" --run "$out/$0" "$@" >>"$out/$0.log" 2>&1 ||
        echo "$0 failed: $out/$0.log"'
define compare "$out"/{standard,projected,DeFINE}-{1,2} --average_seeds --figure "$out/comparison.png"
