"""Compress the tables of a Hugging Face checkpoint or a run, or a table of word vectors."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from define.commands.unused import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser, Namespace
    from torch import Tensor

    from define.report import SmallerTable

_SAMPLE = 128  # last lines of a text, by which outputs are compared
_TRACED = 512  # other lines, by which errors are weighed

_README = """# {title}

```text
{report}
```

![Error by frequency, and the ways that were tried](compression.svg)

```python
{use}
```
"""
_TABLE_USE = """from define.compression import load_table  # pip install define-embeddings

embedding, words = load_table("FOLDER")"""
_RUN_USE = """import define  # pip install define-embeddings[train]

run = define.load("FOLDER")  # and on the command line: define evaluate FOLDER"""


def command(parser: "ArgumentParser", args: list[str]) -> None:
    parser.add_argument(
        "model",
        type=Path,
        help="folder of a checkpoint or a run, or a table: .npy, .safetensors, word2vec (text or "
        ".bin), GloVe text, .kv of gensim",
    )
    parser.add_argument("--output", type=Path, required=True, help="new folder for the result")
    parser.add_argument(
        "--share",
        type=float | None,
        default=None,
        help="most bytes over those of the tables in float32; the best way to store them is taken",
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
        "--distill",
        action="store_true",
        help="weigh errors by what they do to outputs for some lines of --text: takes as long as "
        "a step of training on each of 512 lines",
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
    if arguments.share is not None and not 0 < arguments.share <= 1:
        raise ValueError(f"--share {arguments.share} must be above 0 and at most 1.")
    if arguments.map is None:
        shape = ("expand_dim", "depth", "max_groups", "rounds", "seed")
        refuse(parser, arguments, shape, "is for a DeFINE: give --map too")
    if arguments.text is None:
        refuse(parser, arguments, ["power"], "is for the counts of a --text")
    if arguments.text is not None and arguments.weights is not None:
        raise ValueError("Give either --text or --weights.")
    if arguments.distill and (arguments.text is None or arguments.map is not None):
        raise ValueError("--distill needs a --text, and a budget in bytes.")
    if not arguments.model.exists():
        raise FileNotFoundError(
            f"{arguments.model} is neither a folder of a checkpoint or a run nor a table's file."
        )
    from define.files import new_folder

    is_run = (arguments.model / "config.yaml").is_file()
    if is_run or arguments.model.is_file():
        names = ("map", "text", "keep_tokens_of")
        refuse(parser, arguments, names, "is for checkpoints of transformers")
    if arguments.model.is_file():
        refuse(parser, arguments, ["accept"], "is for models: a table has no outputs to compare")
    name = arguments.output.resolve().name
    with new_folder(arguments.output) as arguments.output:
        if is_run:
            report = _compress_run(arguments, name)
        elif arguments.model.is_dir():
            report = _compress_model(arguments)
        else:
            report = _compress_table(arguments)
    print("\n".join(report))  # where nobody reads it, the folder is there all the same


def _compress_model(arguments: "Namespace") -> list[str]:
    from define.compression import rank_weights
    from define.huggingface import embedding_of, find_tables
    from define.huggingface.compress import compress, compress_to, load_plain
    from define.huggingface.files import carry_files, write_readme
    from define.huggingface.sample import (
        Change,
        count_tokens,
        default_sample,
        read_sample,
        sensitivity,
    )
    from define.huggingface.tables import chosen_tables
    from define.readers import read_lines
    from define.report import SmallerTable

    model, tokenizer = load_plain(arguments.model)
    if arguments.keep_tokens_of is not None:
        if tokenizer is None:
            raise ValueError(f"--keep_tokens_of needs a tokenizer; {arguments.model} has none.")
        from define.huggingface.trim import trim

        whole = len(tokenizer)
        text = (line for line in read_lines(arguments.keep_tokens_of) if line.strip())
        model, tokenizer = trim(model, tokenizer, text)
        print(f"{len(tokenizer):,} of {whole:,} tokens kept")
    table = chosen_tables(model, None)[0]
    tables = find_tables(model)
    size = table.weight.shape[0]
    if tokenizer is None and arguments.accept:
        raise ValueError(f"--accept is for outputs, and {arguments.model} has no tokenizer.")
    lines = default_sample() if tokenizer is not None else []
    weights, metrics, text = _given_weights(arguments), None, []
    if arguments.text is not None:
        if tokenizer is None:
            raise ValueError(f"--text needs a tokenizer, and {arguments.model} has none.")
        text = [line for line in read_lines(arguments.text) if line.strip()]
        counts = count_tokens(tokenizer, text, size)
        known = int((counts > 0).sum())
        print(f"{int(counts.sum()):,} tokens counted, {known:,} of {size:,} occur")
        weights = (counts + 1) ** arguments.power  # those that do not may occur elsewhere
        text, lines = text[:-_SAMPLE], text[-_SAMPLE:]
    elif weights is None and arguments.map is None:
        if tokenizer is not None:
            print("Weights by rank of the id, as in vocabularies sorted by frequency: see --text.")
            weights = rank_weights(size) ** 0.75
        else:
            print("Equal weights for all rows: see --weights.")
    before = None
    if tokenizer is not None:
        try:
            before = read_sample(model, tokenizer, lines)
        except Exception as error:  # noqa: BLE001  # whatever a model needs besides tokens
            what = f"{type(model).__name__} does not run on text alone ({error})."
            if arguments.distill:
                raise ValueError(f"--distill needs outputs, but {what}") from error
            print(f"Outputs are not compared: {what}")
    if arguments.distill and tokenizer is not None:
        traced = (text or lines)[:: max(1, -(-len(text) // _TRACED))]
        metrics = sensitivity(model, tables, tokenizer, traced, report=_say)
    if arguments.map is None:
        budget = {"share": arguments.share, "max_bytes": arguments.max_bytes}
        new, result = compress_to(model, weights, **budget, metrics=metrics, report=_say)
    else:
        settings = {"rounds": arguments.rounds, "seed": arguments.seed, "progress": True}
        new, result = compress(model, _define(arguments), weights, **settings)
    words = None if tokenizer is None else tokenizer.convert_ids_to_tokens(list(range(size)))
    weights = table.weight.new_ones(size) if weights is None else weights
    smaller = [
        SmallerTable(each.name, each.weight, found.embedding, weights, words, found.candidates)
        for each in tables
        if (found := result.tables.get(each.name)) and len(each.weight) == size
    ] or [SmallerTable(table.name, table.weight, embedding_of(new), weights, words)]
    report = [*str(result).splitlines(), *(line for each in smaller for line in each.report())]
    if tokenizer is not None and before is not None:
        after = read_sample(new, tokenizer, lines)
        change = Change.between(before, after)
        source = arguments.text or "help of Python"
        report.append(f"outputs for {len(lines)} lines of {source}: {change}")
        _check_change(change.is_large, report, arguments.accept)
    new.save_pretrained(arguments.output)
    carried = carry_files(arguments.model, arguments.output)
    if arguments.keep_tokens_of is not None and tokenizer is not None:
        from define.huggingface.trim import VOCABULARIES

        for name in carried:  # the old vocabulary, in whatever form
            if name.startswith(VOCABULARIES):
                (arguments.output / name).unlink()
        tokenizer.save_pretrained(arguments.output)
    write_readme(arguments.output, new, report, _draw(smaller, arguments.output))
    return report


def _define(arguments: "Namespace") -> Any:  # noqa: ANN401
    from define import DeFINE

    shape = {name: getattr(arguments, name) for name in ("map", "depth", "max_groups")}
    if arguments.expand_dim is not None:
        shape["expand_dim"] = arguments.expand_dim
    return lambda size, width, padding_idx: DeFINE(size, width, padding_idx, **shape)


def _compress_table(arguments: "Namespace") -> list[str]:
    """A file of word vectors."""
    from define.compression import compress_table, rank_weights, read_vectors, save_table
    from define.report import SmallerTable

    table, words = read_vectors(arguments.model)
    weights = _row_weights(arguments)
    weights = rank_weights(len(table)) ** 0.75 if weights is None else weights
    budget = {"share": arguments.share, "max_bytes": arguments.max_bytes}
    found = compress_table(table, weights, **budget, report=_say)
    save_table(arguments.output, found.embedding, words)
    name = arguments.model.name
    smaller = SmallerTable(name, table, found.embedding, weights, words, found.candidates)
    report = [str(found), f"{found.seconds:.1f} s", *smaller.report()]
    title = f"{name} in {found.taken.bytes:,} bytes"
    return _write_report(arguments.output, title, report, [smaller], _TABLE_USE)


def _compress_run(arguments: "Namespace", name: str) -> list[str]:
    from define.recipes.compressed import compress_run
    from define.recipes.loaded import load
    from define.report import SmallerTable

    run, weights = load(arguments.model), _row_weights(arguments)
    budget = {"share": arguments.share, "max_bytes": arguments.max_bytes}
    done = compress_run(run, arguments.output, name, weights, **budget, report=_say)
    words = run.vocabulary.words
    smaller = [
        SmallerTable(t.name, t.before, t.found.embedding, t.weights, words, t.found.candidates)
        for t in done.tables
    ]
    report = [line for t in done.tables for line in (f"{t.name}:", *str(t.found).splitlines())]
    report += [line for each in smaller for line in each.report()]
    report.append("model: {:,} -> {:,} bytes".format(*done.bytes))
    if done.perplexity is None:
        report.append("validation text is not there: perplexity was not measured")
    else:
        before, after = done.perplexity
        report.append(f"validation perplexity {before:.2f} -> {after:.2f}")
        _check_change(not after <= 1.5 * before, report, arguments.accept)
    return _write_report(
        arguments.output, f"{name}: a run in fewer bytes", report, smaller, _RUN_USE
    )


def _row_weights(arguments: "Namespace") -> "Tensor | None":
    if (given := _given_weights(arguments)) is None:
        print("Weights by rank of the row, as in tables sorted by frequency: see --weights.")
    return given


def _check_change(is_large: bool, report: list[str], accepted: bool) -> None:
    if is_large and not accepted:
        print("\n".join(report))
        raise ValueError(
            "Outputs changed much, so nothing was written: take more bytes, weigh rows by what is "
            "frequent in a text like yours, or --accept the change."
        )


def _write_report(
    folder: Path, title: str, report: list[str], tables: "Sequence[SmallerTable]", use: str
) -> list[str]:
    _draw(tables, folder)
    readme = _README.format(title=title, report="\n".join(report), use=use)
    (folder / "README.md").write_text(readme, "utf-8")
    return report


def _draw(tables: "Sequence[SmallerTable]", folder: Path) -> str:
    """Writes the figure to a folder; its name."""
    from define.report import draw_compression

    draw_compression(tables, folder / "compression.svg")
    return "compression.svg"


def _given_weights(arguments: "Namespace") -> "Tensor | None":
    from define.compression import read_weights

    return None if arguments.weights is None else read_weights(arguments.weights)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # also where output is piped
