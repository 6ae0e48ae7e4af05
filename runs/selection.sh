#!/usr/bin/env bash
# Trains the pydocs recipe once for each candidate: what docs/log.md calls "choices".
#   runs/selection.sh OUT [SEED [EPOCHS [PROCESSES]]]
# Finished runs are left alone, so it can be stopped and started again.
set -eu
out=$1 seed=${2:-1} epochs=${3:-1} processes=${4:-2}
export OMP_NUM_THREADS=1 out seed epochs
mkdir -p "$out"

candidates() {
    local standard="--embedding torch.nn.Embedding"
    local projected="--embedding ProjectedEmbedding --embedding.map 64"
    local unit="--embedding DeFINE --embedding.map 64 --embedding.expand_dim 256 --embedding.max_groups 8"
    for activation in ReLU GELU Tanh Identity; do
        echo "define-$activation $unit --embedding_std 0.2 --embedding.activation torch.nn.$activation"
    done
    for activation in ReLU GELU; do
        echo "define-$activation-LayerNorm $unit --embedding_std 0.2 --embedding.activation torch.nn.$activation --embedding.norm torch.nn.LayerNorm"
    done
    for std in 0.1 0.2 0.4 0.8; do
        echo "standard-std$std $standard --embedding_std $std"
        echo "projected-std$std $projected --embedding_std $std"
        echo "define-std$std $unit --embedding_std $std"
    done
}

candidates | xargs -P "$processes" -L 1 bash -c '
    run=$out/$0-seed$seed
    [ -f "$run/summary.json" ] ||
        define train pydocs --training.epochs "$epochs" --training.learning_rate 0.002 --training.unit_rate 1 --seed "$seed" --run "$run" "$@" \
            >"$run.log" 2>&1 || echo "$0 failed: $run.log"'

python - "$out"/*-seed"$seed"/summary.json <<'PYTHON'
import json, sys
for path in sys.argv[1:]:
    summary = json.load(open(path))
    print(f"{summary['name']:<32}{summary['valid_perplexity']:8.2f}")
PYTHON
