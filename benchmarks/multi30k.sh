#!/usr/bin/env bash
# The multi30k recipe with standard, projected and DeFINE embeddings: BLEU, ten translations of each.
#   benchmarks/multi30k.sh DATA OUT [PROCESSES] [SEEDS] [OPTIONS OF THE RECIPE]
# Run it again to go on where it was stopped.
set -eu
export data=$1 out=$2 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
processes=${3:-2} seeds=${4:-1}
shift $(($# < 4 ? $# : 4))
export options="$*"
mkdir -p "$out"
runs=()
for seed in $seeds; do
    runs+=("$out"/{standard,projected,DeFINE}-"$seed")
done
for seed in $seeds; do
    echo "standard-$seed --seed $seed --embedding torch.nn.Embedding"
    echo "projected-$seed --seed $seed --embedding ProjectedEmbedding --embedding.map 48"
    echo "DeFINE-$seed --seed $seed"
done | xargs -P "$processes" -L 1 bash -c '
    [ -f "$out/$0/summary.json" ] ||
        define train multi30k --data.path "$data" --run "$out/$0" "$@" $options >>"$out/$0.log" 2>&1 ||
        echo "$0 failed: $out/$0.log"'
define compare "${runs[@]}" --average_seeds --figure "$out/comparison.png"
for run in "${runs[@]}"; do
    if [ -f "$run/translations.md" ]; then sed -n 1,3p "$run/translations.md"; fi
done
