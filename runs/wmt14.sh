#!/usr/bin/env bash
# The base Transformer on a GPU, standard and DeFINE, one after the other, for equal steps.
#   runs/wmt14.sh DATA OUT [EPOCHS] [OPTIONS OF THE RECIPE]
# DATA has train, valid (newstest2014) and test (newstest2017) in .en and .de. As in the paper, the
# two input tables and the output table are three. Batches and warm-up are for a text of some 100,000
# pairs; for all of WMT14, --max_tokens 50000 --training.schedule.warmup_steps 4000 as published.
# Run it again to go on where it was stopped.
set -eu
data=$1 out=$2 epochs=${3:-30}
shift $(($# < 3 ? $# : 3))
mkdir -p "$out"
recipe=(define train wmt14 --data.path "$data" --data.vocabulary_size 31000 --share false --tie false
    --max_tokens 16000 --training.schedule.warmup_steps 2000 --training.epochs "$epochs"
    --training.precision bf16-mixed "$@")
[ -f "$out/standard/summary.json" ] || "${recipe[@]}" --run "$out/standard" --embedding torch.nn.Embedding
[ -f "$out/DeFINE/summary.json" ] || "${recipe[@]}" --run "$out/DeFINE"
define compare "$out"/{standard,DeFINE} --figure "$out/comparison.png"
for name in standard DeFINE; do sed -n 3p "$out/$name/translations.md"; done
