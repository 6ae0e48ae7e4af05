"""What is measured: for each section the candidates, the first of which is the reference."""

import atexit
import contextlib
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from peers import PlainAdaptive, PlainAWDLSTM, PlainDeFINE, PlainTransformerXL
from torch import Tensor, nn

from define import (
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    AdaptiveSoftmaxCost,
    DeFINE,
    ProjectedEmbedding,
    TiedSoftmax,
    choose_cutoffs,
)
from define.data import Text
from define.embedding import RoundedEmbedding
from define.mixed_lstm import multiplies_bfloat16
from define.recipes import text
from define.recipes.models import lstm, transformer_xl
from define.training import LanguageModelExperiment, Run, Training

__all__ = ["SECTIONS", "Section"]

STD = 0.1  # tables and hidden states of moderate size, as in an LSTM


@dataclass(frozen=True)
class Section:
    """Candidates that do the same work on the same batch.

    Args:
        title: What is measured.
        note: How.
        candidates: Each does one step; the first is the reference.
        batch: Makes the arguments of a round.
        rounds: Rounds that are counted.
    """

    title: str
    note: str
    candidates: Mapping[str, Callable[..., object]]
    batch: Callable[[], tuple[Any, ...]] = tuple
    rounds: int = 9


def zipf(num_embeddings: int, batch_size: int, length: int) -> tuple[Tensor, Tensor]:
    """Tokens and targets (batch_size, length) by Zipf's law."""
    weights = 1 / torch.arange(1.0, num_embeddings + 1)
    ids = torch.multinomial(weights, batch_size * (length + 1), replacement=True)
    return ids.view(batch_size, -1)[:, :-1], ids.view(batch_size, -1)[:, 1:]


def step(full: bool) -> list[Callable[[], Section]]:
    """Embedding and output layer by size of the vocabulary."""
    lengths = {10_000: 70, 50_000: 70, 267_735: 70 if full else 35}
    return [partial(_step, size, length) for size, length in lengths.items()]


def _step(num_embeddings: int, length: int) -> Section:
    m, n, tokens = 400, 128, 20 * length
    counts = 1 / torch.arange(1.0, num_embeddings + 1, device="cpu")
    # Bands of one width may be many; those that narrow have no columns left after four.
    few, cutoffs = (
        choose_cutoffs(counts, AdaptiveSoftmaxCost(n, tokens=tokens), bands) for bands in (4, 8)
    )
    # Those of the least time with torch's widths, where they fall by 2: eight bands there too.
    torch_cost = AdaptiveSoftmaxCost(m, div_value=2, in_features=m, tokens=tokens)
    torch_cutoffs = choose_cutoffs(counts, torch_cost, 8)

    def table() -> nn.Embedding:
        embedding = nn.Embedding(num_embeddings, m)
        nn.init.normal_(embedding.weight, std=STD)
        return embedding

    def unit() -> DeFINE:
        return DeFINE(num_embeddings, m, map=n, expand_dim=1024, depth=7, max_groups=128, std=STD)

    def with_full(embedding: nn.Module, weight: Tensor, project: bool) -> Callable:
        projection = nn.Linear(m, n, bias=False) if project else nn.Identity()

        def loss(tokens: Tensor, targets: Tensor) -> Tensor:
            hidden = projection(embedding(tokens).flatten(0, 1))
            return F.cross_entropy(F.linear(hidden, weight), targets.flatten())

        return loss

    def with_head(embedding: nn.Module, head: nn.Module) -> Callable:
        return lambda tokens, targets: head(embedding(tokens), targets).mean()

    def with_torch(embedding: nn.Module, cutoffs: Sequence[int], div_value: float) -> Callable:
        softmax = nn.AdaptiveLogSoftmaxWithLoss(m, num_embeddings, list(cutoffs), div_value)
        return lambda x, y: softmax(embedding(x).flatten(0, 1), y.flatten()).loss

    plain, ours, untied = table(), table(), table()
    projected = ProjectedEmbedding(num_embeddings, m, map=n, std=STD)
    adaptive = AdaptiveEmbedding(num_embeddings, m, cutoffs=few, std=STD)
    deep, obvious = unit(), unit()
    losses = {"standard, tied, cross-entropy over all": with_full(plain, plain.weight, False)}
    if hasattr(F, "linear_cross_entropy"):
        losses["standard, tied, `F.linear_cross_entropy`"] = _linear(table())
    losses |= {
        "standard, tied, in chunks": with_head(ours, TiedSoftmax(ours, m)),
        "standard, `nn.AdaptiveLogSoftmaxWithLoss` (untied)": with_torch(untied, few, 4.0),
        f"the same, `div_value=2`, cutoffs {_named(torch_cutoffs)}": with_torch(
            untied, torch_cutoffs, 2.0
        ),
        "standard, tied adaptive softmax": with_head(ours, AdaptiveSoftmax(ours, m, cutoffs)),
        "projected, tied adaptive softmax": with_head(
            projected, AdaptiveSoftmax(projected.map, m, cutoffs)
        ),
        "adaptive input and softmax": with_head(adaptive, AdaptiveSoftmax(adaptive, m)),
        "DeFINE per token, cross-entropy over all": with_full(
            PlainDeFINE(obvious), cast(nn.Embedding, obvious.map).weight, True
        ),
        "DeFINE, tied adaptive softmax": with_head(deep, AdaptiveSoftmax(deep.map, m, cutoffs)),
    }
    return Section(
        f"Embedding and output, V = {num_embeddings:,}",
        f"Forward and backward, 20 × {length} tokens by Zipf's law, m = {m}, n = {n}, k = 1024, "
        f"7 layers, 128 groups; cutoffs of the least time for n: {_named(cutoffs)}; where "
        f"bands narrow: {_named(few)}.",
        {name: _trained(loss) for name, loss in losses.items()},
        partial(zipf, num_embeddings, 20, length),
        rounds=3 if num_embeddings > 100_000 else 5 if num_embeddings > 20_000 else 9,
    )


def _named(cutoffs: Sequence[int]) -> str:
    return ", ".join(f"{cutoff:,}" for cutoff in cutoffs)


def _linear(embedding: nn.Embedding) -> Callable:
    # Its own choice of chunks is slow where hidden states are narrow: 256 rows at a time.
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=256, chunking_method=None)  # pyright: ignore
    cross_entropy = cast(Any, F).linear_cross_entropy

    def loss(tokens: Tensor, targets: Tensor) -> Tensor:
        hidden = embedding(tokens).flatten(0, 1)
        return cross_entropy(hidden, embedding.weight, targets.flatten(), options=options)

    return loss


def _trained(loss: Callable) -> Callable[..., None]:
    """Forward and backward; gradients are given up at once, or all candidates' take 4 GB more."""
    leaves: list[Tensor] = []

    def step(*batch: Any) -> None:  # noqa: ANN401
        value = loss(*batch)
        if not leaves:
            leaves.extend(_leaves(value))
        value.backward()
        for leaf in leaves:
            leaf.grad = None

    return step


def _leaves(value: Tensor) -> list[Tensor]:
    """The parameters that a loss depends on."""
    found, seen, stack = [], set(), [value.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (variable := getattr(node, "variable", None)) is not None:
            found.append(variable)
        stack.extend(parent for parent, _ in node.next_functions)
    return found


def _by_products(name: str, make: Callable[[], Callable]) -> dict[str, Callable]:
    """Training steps of what `make` returns under each setting of products that a CPU has."""
    found: dict[str, Callable] = {name: _trained(make())}
    if torch.get_default_device().type == "cpu":
        found[f"{name}, float32 products `medium`"] = _medium(_trained(make()))
        if multiplies_bfloat16():
            found[f"{name}, bfloat16 products"] = _autocast(_trained(make()))
    return found


def _medium(step: Callable[..., None]) -> Callable[..., None]:
    """A step as `--training.float32_matmul_precision medium` runs it."""

    def run(*batch: Any) -> None:  # noqa: ANN401
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        step(*batch)
        torch.set_float32_matmul_precision(before)

    return run


def _autocast(step: Callable[..., None]) -> Callable[..., None]:
    """A step as `--training.precision bf16-mixed` runs it."""
    return torch.autocast("cpu", torch.bfloat16)(step)


def unit(full: bool) -> list[Callable[[], Section]]:
    """The unit against one matrix product of as many operations."""

    def make() -> Section:
        rows, n, m = 8400, 128, 400
        embedding = DeFINE(rows, m, map=n, expand_dim=1024, depth=7, max_groups=128)
        ids = torch.arange(rows)
        width = embedding.row_cost() // 1024
        x = torch.randn(rows, 1024, requires_grad=True)
        product = torch.randn(1024, width, requires_grad=True)
        return Section(
            "The unit, by operations",
            f"Forward and backward of {rows:,} rows (k = 1024, 7 layers, 128 groups) against one "
            f"matrix product of as many operations, {rows:,} × 1024 × {width}.",
            {
                "one product": _trained(lambda: (x @ product).sum()),
                "the unit": _trained(lambda: embedding.rows(ids).sum()),
            },
        )

    return [make]


def look(full: bool) -> list[Callable[[], Section]]:
    """Tables in use: what a trained embedding becomes."""

    def make() -> Section:
        size, m = 50_000, 400
        embedding = DeFINE(size, m, map=128, expand_dim=1024, depth=3, max_groups=16)
        tables = {
            "`nn.Embedding`": nn.Embedding(size, m),
            "DeFINE, folded": embedding.to_embedding(),
            "8 bits a number": RoundedEmbedding(size, m, bits=8),
            "4 bits a number": RoundedEmbedding(size, m, bits=4),
        }

        @torch.no_grad()
        def repeat(table: nn.Module, tokens: Tensor, targets: Tensor) -> None:
            for _ in range(20):
                table(tokens)

        candidates = {name: partial(repeat, table.eval()) for name, table in tables.items()}
        return Section(
            "Look-up in a trained table",
            f"60 × 140 tokens by Zipf's law, V = {size:,}, m = {m}, 20 times.",
            candidates,
            partial(zipf, size, 60, 140),
            rounds=15,
        )

    return [make]


def awd_lstm(full: bool) -> list[Callable[[], Section]]:
    """AWD-LSTM at its published size against plain modules."""

    def make() -> Section:
        size, length = 10_000, 70 if full else 35
        plain = PlainAWDLSTM(size)
        options: Any = {
            "embedding_dim": 400,
            "embedding_std": 0.058,
            "hidden_size": 1150,
            "num_layers": 3,
            "output_size": 400,
            "dropout": 0.25,
            "input_dropout": 0.4,
            "output_dropout": 0.4,
            "weight_dropout": 0.5,
            "word_dropout": 0.1,
        }
        ours = lstm(size, nn.Embedding, **options)
        adaptive = lstm(size, nn.Embedding, **options, cutoffs=(2000, 5000))
        return Section(
            "AWD-LSTM",
            f"Forward and backward, 20 × {length} tokens, V = {size:,}, widths 400 and 1150, all "
            "dropouts.",
            {
                **_by_products("plain modules", lambda: plain),
                **_by_products("ours", lambda: lambda x, y: ours(x, y)[0].mean()),
                "ours, adaptive softmax": _trained(lambda x, y: adaptive(x, y)[0].mean()),
            },
            partial(zipf, size, 20, length),
            rounds=3,
        )

    return [make]


def transformer(full: bool) -> list[Callable[[], Section]]:
    """Transformer-XL at WikiText-103's vocabulary against plain modules."""

    def make() -> Section:
        size, cutoffs = 267_735, [20_000, 40_000, 200_000]
        layers, batch_size, length = (16, 16, 150) if full else (4, 4, 75)
        sizes: Any = {"num_heads": 10, "head_dim": 41, "inner_dim": 1920}
        plain = PlainTransformerXL(PlainAdaptive(size, 128, 384, cutoffs), layers, 384, **sizes)
        make = partial(AdaptiveEmbedding, cutoffs=cutoffs, map_dim=128, div_value=1)
        ours = transformer_xl(size, make, depth=layers, memory_length=length, **sizes)

        def stateful(model: nn.Module) -> Callable[..., Tensor]:
            state = None

            def loss(tokens: Tensor, targets: Tensor) -> Tensor:
                nonlocal state
                nll, state = model(tokens, targets, state)
                return nll.mean()

            return loss

        return Section(
            "Transformer-XL",
            f"Forward and backward, {layers} layers, {batch_size} × {length} tokens and memory, "
            f"V = {size:,}, n = 128 (Table 2).",
            {
                **_by_products("plain modules", lambda: stateful(plain)),
                **_by_products("ours", lambda: stateful(ours)),
            },
            partial(zipf, size, batch_size, length),
            rounds=3,
        )

    return [make]


def training(full: bool) -> list[Callable[[], Section]]:
    """A whole training by `define train` against a bare loop of the same steps, on the CPU."""
    if torch.get_default_device().type != "cpu":
        return []

    def make() -> Section:
        folder = Path(tempfile.mkdtemp())
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        tokens = {"train": 700_000 if full else 70_000, "valid": 7_000, "test": 7_000}
        for split, number in tokens.items():
            ids, _ = zipf(5_000, number // 20, 19)
            lines = (" ".join(f"w{id_}" for id_ in line) for line in ids.tolist())
            (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
        runs = count()

        def experiment() -> LanguageModelExperiment:
            settings = Training(epochs=1, learning_rate=0.004, accelerator="cpu")
            return text(Text(folder), embedding=nn.Embedding, training=settings)

        def bare() -> None:
            ours = experiment()
            settings, model = ours.training, ours.model
            batches = ours.train_batches(0, 1)
            optimizer = settings.optimizer(model.parameters())
            state = None
            for step, (tokens, targets) in enumerate(batches):
                rate = settings.learning_rate * settings.schedule.factor(step, len(batches))
                optimizer.param_groups[0]["lr"] = rate
                nll, state = model(tokens, targets, state)
                optimizer.zero_grad()
                nll.mean().backward()
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
                optimizer.step()
            for split in ("valid", "test"):
                ours.evaluate(split)

        return Section(
            "Training",
            f"An LSTM 2 × 200 on {tokens['train']:,} tokens, V = 5,000, validation and test "
            "included: `define train` writes logs, checkpoints and a summary besides.",
            {"a bare loop": bare, "`define train`": lambda: _train(experiment(), folder, runs)},
            rounds=3,
        )

    return [make]


def _train(experiment: LanguageModelExperiment, folder: Path, runs: Iterator[int]) -> None:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        experiment.train(Run(folder / f"run-{next(runs)}"))


SECTIONS: dict[str, Callable[[bool], list[Callable[[], Section]]]] = {
    "step": step,
    "unit": unit,
    "look": look,
    "awd-lstm": awd_lstm,
    "transformer-xl": transformer,
    "training": training,
}
