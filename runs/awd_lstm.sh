#!/usr/bin/env bash
# The penn-treebank-fast recipe, AWD-LSTM at its full size, with standard, projected and DeFINE
# embeddings. For a GPU; three processes share one.
#   runs/awd_lstm.sh DATA OUT [PROCESSES] [ARGUMENTS...]
# Further arguments go to every run. RECIPE=penn-treebank trains as published, for 500 epochs.
# Run it again, with the same arguments, to go on where it was stopped.
set -eu
export data=$1 out=$2 recipe=${RECIPE:-penn-treebank-fast} OMP_NUM_THREADS=1
processes=${3:-3}
shift $(($# < 3 ? $# : 3))
mkdir -p "$out"
# A space at the end of a line would join it with the next.
printf '%s\n' \
    "standard --embedding torch.nn.Embedding $*" \
    "projected --embedding ProjectedEmbedding --embedding.map 128 $*" \
    "DeFINE $*" | sed 's/ *$//' | xargs -P "$processes" -L 1 bash -c '
    [ -f "$out/$0/summary.json" ] ||
        define train "$recipe" --data.path "$data" --run "$out/$0" "$@" >>"$out/$0.log" 2>&1 ||
        echo "$0 failed: $out/$0.log"'
for name in standard projected DeFINE; do
    define evaluate "$out/$name" --batch_size 1
    define evaluate "$out/$name" --batch_size 1 --tune_cache
done
define compare "$out"/{standard,projected,DeFINE} --figure "$out/comparison.png"
