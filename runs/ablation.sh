#!/usr/bin/env bash
# The paper's ablation at the scale of the penn-treebank-small recipe: one run for each variant.
#   runs/ablation.sh DATA OUT [EPOCHS [PROCESSES]]
# Run it again to go on where it was stopped.
set -eu
export data=$1 out=$2 epochs=${3:-1} OMP_NUM_THREADS=1
mkdir -p "$out"
unit="--embedding DeFINE --embedding.map 96 --embedding.expand_dim 384"
xargs -P "${4:-2}" -L 1 bash -c '
    [ -f "$out/$0/summary.json" ] ||
        define train penn-treebank-small --data.path "$data" --run "$out/$0" \
            --training.epochs "$epochs" "$@" >>"$out/$0.log" 2>&1 || echo "$0 failed: $out/$0.log"' <<END
linear $unit --embedding.groups [1,1,1] --embedding.skip none --embedding.reduce_map false
GLT $unit --embedding.groups [8,8,8] --embedding.skip none --embedding.reduce_map false
GLT-shuffle $unit --embedding.groups [8,8,8] --embedding.skip none --embedding.reduce_map false --embedding.shuffle true
HGT $unit --embedding.groups [8,4,2] --embedding.skip none --embedding.reduce_map false
without-mixer $unit --embedding.groups [8,4,2] --embedding.skip concatenation
DeFINE $unit --embedding.groups [8,4,2]
residual $unit --embedding.groups [8,4,2] --embedding.skip residual --embedding.reduce_map false
without-reduce $unit --embedding.groups [8,4,2] --embedding.reduce false
shared $unit --embedding.groups [8,4,2] --embedding.shared true
without-reduce-map $unit --embedding.groups [8,4,2] --embedding.reduce_map false
depth-7 $unit --embedding.depth 7 --embedding.max_groups 32
depth-11 $unit --embedding.depth 11 --embedding.max_groups 32
END
define compare "$out"/{linear,GLT,GLT-shuffle,HGT,without-mixer,DeFINE,residual,without-reduce,shared,without-reduce-map,depth-7,depth-11} \
    --figure "$out/comparison.png"
