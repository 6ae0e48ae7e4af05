#!/usr/bin/env bash
# The wikitext-2 recipe with standard, projected and DeFINE embeddings.
#   [SEEDS="1 2"] benchmarks/wikitext_2.sh DATA OUT [PROCESSES [RECIPE [OPTIONS ...]]]
# RECIPE may be wikitext-2-transformer-xl; options are those of `define train`. Run it again to go
# on where it was stopped.
set -eu
export data=$1 out=$2 recipe=${4:-wikitext-2} OMP_NUM_THREADS=1
processes=${3:-2} options=("${@:5}") runs=()
mkdir -p "$out"
for seed in ${SEEDS:-1 2}; do
    runs+=("$out"/{standard,projected,DeFINE}-"$seed")
done
for seed in ${SEEDS:-1 2}; do
    # Options come first: a space at the end of a line would join it with the next.
    echo "standard-$seed ${options[*]} --seed $seed --embedding torch.nn.Embedding"
    echo "projected-$seed ${options[*]} --seed $seed --embedding ProjectedEmbedding --embedding.map 96"
    echo "DeFINE-$seed ${options[*]} --seed $seed"
done | xargs -P "$processes" -L 1 bash -c '
    [ -f "$out/$0/summary.json" ] ||
        define train "$recipe" --data.path "$data" --run "$out/$0" "$@" >>"$out/$0.log" 2>&1 ||
        echo "$0 failed: $out/$0.log"'
define compare "${runs[@]}" --average_seeds --figure "$out/comparison.png"
