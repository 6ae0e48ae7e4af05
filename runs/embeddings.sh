#!/usr/bin/env bash
# A recipe with standard, projected and DeFINE embeddings: same budget, same settings, all seeds.
#   [SEEDS="1 2"] runs/embeddings.sh RECIPE DATA OUT N [PROCESSES [OPTIONS ...]]
# RECIPE is penn-treebank-small, wikitext-2, wikitext-2-transformer-xl, multi30k ...; N is the width
# of the projected embedding's table, that of the recipe's DeFINE; options are those of `define
# train`. Run it again to go on where it was stopped.
set -eu
export recipe=$1 data=$2 out=$3 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
narrow=$4 processes=${5:-2} options=("${@:6}") runs=()
mkdir -p "$out"
for seed in ${SEEDS:-1 2}; do
    runs+=("$out"/{standard,projected,DeFINE}-"$seed")
done
for seed in ${SEEDS:-1 2}; do
    # Options come first: a space at the end of a line would join it with the next.
    echo "standard-$seed ${options[*]} --seed $seed --embedding torch.nn.Embedding"
    echo "projected-$seed ${options[*]} --seed $seed --embedding ProjectedEmbedding --embedding.map $narrow"
    echo "DeFINE-$seed ${options[*]} --seed $seed"
done | xargs -P "$processes" -L 1 bash -c '
    [ -f "$out/$0/summary.json" ] ||
        define train "$recipe" --data.path "$data" --run "$out/$0" "$@" >>"$out/$0.log" 2>&1 ||
        echo "$0 failed: $out/$0.log"'
define compare "${runs[@]}" --average_seeds --figure "$out/comparison.png"
for run in "${runs[@]}"; do
    if [ -f "$run/translations.md" ]; then sed -n 1,3p "$run/translations.md"; fi
done
