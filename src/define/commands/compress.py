"""Compress the token table of a Hugging Face checkpoint, or a table of word vectors."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace
    from torch import Tensor


def command(parser: "ArgumentParser", args: list[str]) -> None:
    """Runs the command."""
    parser.add_argument(
        "model",
        type=Path,
        help="folder of a checkpoint, or a table: .npy, .safetensors, word2vec or GloVe text",
    )
    parser.add_argument("--output", type=Path, required=True, help="new folder for the result")
    parser.add_argument(
        "--share",
        type=float | None,
        default=None,
        help="most bytes over those of the table in float32; the best way to store it is taken",
    )
    parser.add_argument(
        "--max_bytes", "--max-bytes", type=int | None, default=None, help="the same in bytes"
    )
    parser.add_argument(
        "--text",
        type=Path | None,
        default=None,
        help="text whose tokens are counted: what an error in each row costs; its last lines are "
        "the sample by which outputs are compared",
    )
    parser.add_argument(
        "--weights",
        type=Path | None,
        default=None,
        help="text file with one number a line, what an error in each row of the table costs",
    )
    parser.add_argument(
        "--power", type=float, default=0.75, help="of the counts of --text, as weights"
    )
    parser.add_argument(
        "--keep_tokens_of",
        "--keep-tokens-of",
        type=Path | None,
        default=None,
        help="text to whose tokens the vocabulary is cut first",
    )
    parser.add_argument(
        "--accept", action="store_true", help="write the model even if its outputs changed much"
    )
    parser.add_argument(
        "--map", type=int | None, default=None, help="fit a DeFINE with a Map of this width instead"
    )
    parser.add_argument("--expand_dim", type=int | None, default=None, help="its width k of Expand")
    parser.add_argument("--depth", type=int, default=1, help="its layers of Expand")
    parser.add_argument("--max_groups", type=int, default=1, help="groups of its first layer")
    parser.add_argument("--rounds", type=int, default=40, help="most rounds of its fit")
    parser.add_argument("--seed", type=int, default=0, help="of its fit")
    arguments = parser.parse_args(args)
    budgets = (arguments.share, arguments.max_bytes, arguments.map)
    if sum(budget is not None for budget in budgets) != 1:
        raise ValueError("Give one of --share, --max_bytes and --map.")
    if arguments.map is None and arguments.expand_dim is not None:
        raise ValueError("--expand_dim is that of a DeFINE: give --map too.")
    if arguments.text is not None and arguments.weights is not None:
        raise ValueError("Give either --text or --weights.")
    if arguments.output.exists():
        raise ValueError(f"{arguments.output} exists already: name another --output.")
    if not arguments.model.exists():
        raise FileNotFoundError(
            f"{arguments.model} is neither the folder of a checkpoint nor a file with a table."
        )
    (_compress_model if arguments.model.is_dir() else _compress_table)(arguments)


def _compress_model(arguments: "Namespace") -> None:
    from define.compression import rank_weights
    from define.huggingface.compress import compress, compress_to, load_plain
    from define.huggingface.files import carry_files, write_readme
    from define.huggingface.sample import (
        Change,
        count_tokens,
        default_sample,
        read_sample,
    )
    from define.huggingface.tables import chosen_tables
    from define.readers import read_lines

    model, tokenizer = load_plain(arguments.model)
    if arguments.keep_tokens_of is not None:
        if tokenizer is None:
            raise ValueError(f"--keep_tokens_of needs a tokenizer; {arguments.model} has none.")
        from define.huggingface.trim import trim

        whole = len(tokenizer)
        text = (line for line in read_lines(arguments.keep_tokens_of) if line.strip())
        model, tokenizer = trim(model, tokenizer, text)
        print(f"{len(tokenizer):,} of {whole:,} tokens kept")
    size = chosen_tables(model, None)[0].weight.shape[0]
    lines = default_sample() if tokenizer is not None else []
    weights = _given_weights(arguments)
    if arguments.text is not None:
        if tokenizer is None:
            raise ValueError(f"--text needs a tokenizer, and {arguments.model} has none.")
        text = [line for line in read_lines(arguments.text) if line.strip()]
        counts = count_tokens(tokenizer, text, size)
        known = int((counts > 0).sum())
        print(f"{int(counts.sum()):,} tokens counted, {known:,} of {size:,} occur")
        weights = (counts + 1) ** arguments.power  # those that do not may occur elsewhere
        lines = text[-128:]
    elif weights is None and arguments.map is None:
        if tokenizer is not None:
            print("Weights by rank of the id, as in vocabularies sorted by frequency: see --text.")
            weights = rank_weights(size) ** 0.75
        else:
            print("Equal weights for all rows: see --weights.")
    before = read_sample(model, tokenizer, lines) if tokenizer is not None else None
    if arguments.map is None:
        budget = {"share": arguments.share, "max_bytes": arguments.max_bytes}
        new, result = compress_to(model, weights, **budget, report=_say)
    else:
        settings = {"rounds": arguments.rounds, "seed": arguments.seed}
        new, result = compress(model, _define(arguments), weights, **settings)
    report = str(result).splitlines()
    if tokenizer is not None and before is not None:
        after = read_sample(new, tokenizer, lines)
        change = Change.between(before, after)
        source = arguments.text or "help of Python"
        report.append(f"outputs for {len(lines)} lines of {source}: {change}")
        if change.is_large and not arguments.accept:
            print("\n".join(report))
            raise ValueError(
                "Outputs changed much, so nothing was written: take more bytes, count the tokens "
                "of a --text like yours, or --accept the change."
            )
    new.save_pretrained(arguments.output)
    carried = carry_files(arguments.model, arguments.output)
    if arguments.keep_tokens_of is not None and tokenizer is not None:
        from define.huggingface.trim import VOCABULARIES

        for name in carried:  # the old vocabulary, in whatever form
            if name.startswith(VOCABULARIES):
                (arguments.output / name).unlink()
        tokenizer.save_pretrained(arguments.output)
    write_readme(arguments.output, new, report)
    print("\n".join(report))


def _define(arguments: "Namespace") -> Any:  # noqa: ANN401
    from define import DeFINE

    shape = {name: getattr(arguments, name) for name in ("map", "depth", "max_groups")}
    if arguments.expand_dim is not None:
        shape["expand_dim"] = arguments.expand_dim
    return lambda size, width, padding_idx: DeFINE(size, width, padding_idx, **shape)


def _compress_table(arguments: "Namespace") -> None:
    from define.compression import compress_table, rank_weights, read_vectors, save_table

    if arguments.text is not None or arguments.map is not None:
        raise ValueError("--text and --map are for checkpoints: a table has no tokenizer.")
    table, words = read_vectors(arguments.model)
    weights = _given_weights(arguments)
    if weights is None:
        print("Weights by rank of the row, as in tables sorted by frequency: see --weights.")
        weights = rank_weights(len(table)) ** 0.75
    budget = {"share": arguments.share, "max_bytes": arguments.max_bytes}
    found = compress_table(table, weights, **budget, report=_say)
    save_table(arguments.output, found.embedding, words)
    print(found)


def _given_weights(arguments: "Namespace") -> "Tensor | None":
    from define.compression import read_weights

    return None if arguments.weights is None else read_weights(arguments.weights)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # also where output is piped
