#!/usr/bin/env bash
# What is worth most on a GPU, within 25 minutes of one H100-class card:
#   runs/gpu.sh PENN_TREEBANK OUT [--dry]
# (steps) time and memory of Transformer-XL's step at 60 x 150 for the rows of Table 2, eager and
# compiled; (bench) embedding and output, look-up in a folded table; (train) AWD-LSTM of full size
# with standard, adaptive and DeFINE embeddings, side by side for equal time.
# Run it again to go on where it was stopped: what is in OUT is not done again. PARTS says which of
# the three, EPOCHS (30) are those of the last. --dry does the same at toy size on the CPU.
set -euo pipefail
data=$1 out=$2 dry=${3:-}
case $dry in '' | --dry) ;; *) echo "$dry: --dry is all that may follow." >&2 && exit 2 ;; esac
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
mkdir -p "$out"

train=(--training.epochs "${EPOCHS:-30}" --training.checkpoint_minutes 1)
step=(--device cuda --batch_size 60 --precision bfloat16 --rounds 7)
bench=(--device cuda --full)
rows=("n 384" "n 128" "n 128 + DeFINE" "n 128 + DeFINE, both sides")
deep=(--embedding DeFINE --embedding.map 128 --embedding.expand_dim 1024 --embedding.depth 7 --embedding.max_groups 128)
cutoffs='[2000,5000]'
if [ "$dry" = --dry ]; then
    train=(--training.epochs 1 --training.accelerator cpu --embedding_dim 16 --hidden_size 16
        --output_size 16 --num_layers 1 --training.length 20)
    step=(--batch_size 1 --length 4 --layers 1 --rounds 1 --max_groups 4)
    bench=(--only unit --rounds 1)
    rows=("n 128")
    deep=(--embedding DeFINE --embedding.map 8 --embedding.expand_dim 32 --embedding.depth 2 --embedding.max_groups 2)
    cutoffs='[10,30]'
fi

# Writes what a command prints into a file, whole or not at all.
once() {
    local file=$1
    shift
    [ -f "$file" ] && return
    if "$@" >"$file.part"; then mv "$file.part" "$file"; else echo "failed: $*" >&2; fi
}

# Shows files, as far as they are there.
show() {
    for file; do [ ! -f "$file" ] || cat "$file"; done
}

learn() {
    local name=$1
    shift
    [ -f "$out/$name/summary.json" ] ||
        timeout 840 "$python" -m define train penn-treebank-fast --data.path "$data" \
            --run "$out/$name" "${train[@]}" "$@" >>"$out/$name.log" 2>&1 ||
        echo "$name is not done: $out/$name.log; the same command goes on" >&2
}

started=$SECONDS
steps() {
    # One row at a time: a model that needs too much memory costs its own row alone.
    for row in "${rows[@]}"; do
        once "$out/step-${row//[ ,+]/_}.txt" "$python" "$here/benchmarks/wikitext_103_step.py" \
            "${step[@]}" --rows "$row"
        [ "$dry" = --dry ] || once "$out/step-compiled-${row//[ ,+]/_}.txt" "$python" \
            "$here/benchmarks/wikitext_103_step.py" "${step[@]}" --rows "$row" --compile
    done
    show "$out"/step-*.txt
}

bench() {
    once "$out/bench.txt" "$python" "$here/benchmarks/bench.py" "${bench[@]}" --output "$out/bench"
    show "$out/bench.txt"
}

train() {
    learn standard --embedding torch.nn.Embedding &
    learn adaptive --embedding AdaptiveEmbedding --embedding.cutoffs "$cutoffs" &
    learn DeFINE "${deep[@]}" &
    wait
    finished=()
    for name in standard adaptive DeFINE; do
        [ ! -f "$out/$name/summary.json" ] || finished+=("$out/$name")
    done
    if [ ${#finished[@]} -gt 1 ]; then
        "$python" -m define compare "${finished[@]}" --figure "$out/comparison.png" |
            tee "$out/comparison.md"
    fi
}

for part in ${PARTS:-steps bench train}; do "$part"; done
echo "$(((SECONDS - started) / 60)) minutes"
