#!/usr/bin/env bash
# Which learning rates a recipe wants: four tries for each embedding, validation perplexity of each.
#   RATES="LOW MIDDLE HIGH HIGHEST" runs/rates.sh RECIPE DATA OUT N [PROCESSES [OPTIONS ...]]
# N is the width of the projected embedding's table. The standard embedding is tried with all four
# rates; projected and DeFINE with the two in the middle, with unit and matrix at the full rate and
# at a tenth of it. Options are those of `define train`. Run it again to go on where it was stopped.
set -eu
export recipe=$1 data=$2 out=$3 OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
narrow=$4 processes=${5:-2} options=("${@:6}")
read -ra rates <<<"$RATES"
mkdir -p "$out"
# Options come first: a space at the end of a line would join it with the next.
tries() {
    for rate in "${rates[@]}"; do
        echo "standard-$rate ${options[*]} --training.learning_rate $rate --embedding torch.nn.Embedding"
    done
    for rate in "${rates[@]:1:2}"; do
        for unit in 1 0.1; do
            set -- "${options[*]} --training.learning_rate $rate --training.unit_rate $unit"
            echo "projected-$rate-$unit $1 --embedding ProjectedEmbedding --embedding.map $narrow"
            echo "DeFINE-$rate-$unit $1"
        done
    done
}
tries | xargs -P "$processes" -L 1 bash -c '
    [ -f "$out/$0/summary.json" ] ||
        define train "$recipe" --data.path "$data" --run "$out/$0" "$@" >>"$out/$0.log" 2>&1 ||
        echo "$0 failed: $out/$0.log"'
python - "$out"/*/summary.json <<'PYTHON'
import json, sys
for path in sys.argv[1:]:
    summary = json.load(open(path))
    print(f"{summary['name']:<28}{summary['valid_perplexity']:8.2f}")
PYTHON
