"""A trained run whose tables are stored in few bytes: one that opens as before."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from define.compression import Compressed, compress_table, rank_weights, stored_bytes
from define.embedding import Embedding, bands, share_rows, tied_table, whole_table
from define.embedding.description import build, describe
from define.files import write_text
from define.readers import read_json
from define.softmax import AdaptiveSoftmax, OutputLayer
from define.training import Run

if TYPE_CHECKING:
    from define.recipes.loaded import LoadedRun

__all__ = ["RunTable", "SmallerRun", "compress_run", "read_tables", "swap_tables"]


@dataclass(frozen=True)
class RunTable:
    """A table of a run, what an error in each of its rows costs, and what stands for it."""

    name: str
    before: Tensor
    weights: Tensor
    found: Compressed


@dataclass(frozen=True)
class SmallerRun:
    """What became of a run: its tables, validation perplexity, and bytes of the model.

    Args:
        tables: Those that were compressed.
        perplexity: Before and after; None where the text of the run is not there.
        bytes: Of the whole model, before and after.
    """

    tables: list[RunTable]
    perplexity: tuple[float, float] | None
    bytes: tuple[int, int]


def compress_run(
    run: "LoadedRun",
    output: Path,
    name: str,
    weights: Tensor | None = None,
    *,
    share: float | None = None,
    max_bytes: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> SmallerRun:
    """Writes a run that is the same but for its tables: those that outputs may be tied to.

    Of an embedding with a Map that is the Map; the unit stays as it is, and so do output layers
    with a table of their own. The model of `run` is changed.

    Args:
        run: The run.
        output: Folder of the new run, which may be the draft of one.
        name: Of the new run.
        weights: What an error in each row costs; by its rank if omitted.
        share: Most bytes of each table over those that it has.
        max_bytes: Most bytes, for a run of one table; give either.
        report: Called with a line for each way that was tried.

    Raises:
        ValueError: If the model has no embedding, several and `max_bytes` is given, or nothing
            keeps to the budget.
    """
    tables, before = _tables(run.model), stored_bytes(run.model)
    if not tables:
        raise ValueError(f"The model of {run.path} has no embedding.")
    if max_bytes is not None and len(tables) > 1:
        raise ValueError(f"{run.path} has {len(tables)} tables ({', '.join(tables)}): give share.")
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"{share=} must be above 0 and at most 1.")
    done: list[RunTable] = []
    for place, table in tables.items():
        rows = whole_table(table).detach().float()
        costs = rank_weights(len(rows)) ** 0.75 if weights is None else weights
        stored = stored_bytes(table)
        found = compress_table(
            rows,
            costs,
            max_bytes=max_bytes if share is None else int(share * stored),
            padding_idx=cast(Any, table).padding_idx,
            report=lambda line, place=place: report(f"{place}: {line}"),
        )
        done.append(RunTable(place, rows, costs, replace(found, table_bytes=stored)))
    was = _measured(run)
    new = {table.name: table.found.embedding for table in done}
    swap_tables(run.model, new)
    now = None if was is None else _measured(run)
    old, smaller = Run(run.path), Run(output)
    output.mkdir(exist_ok=True)
    for file in (old.config, old.vocabulary, old.tokenizer):
        if file.is_file():
            shutil.copy(file, output)
    described = {name: describe(table) for name, table in new.items()}
    write_text(smaller.tables, json.dumps(described, indent=2) + "\n")
    smaller.record(smaller.config, smaller.vocabulary, smaller.tokenizer, smaller.tables)
    smaller.save_weights(run.model.state_dict())
    if now is not None and run.summary:
        known = {name: found for name, found in run.summary.items() if "test_" not in name}
        model: Any = run.model
        known |= {
            "name": name,
            "embedding": type(model.embedding).__name__,
            **asdict(model.parameter_counts()),
            "stored_bytes": stored_bytes(model),
            "valid_perplexity": now,
            "valid_bleu": None,
            "test_perplexity": None,
        }
        smaller.write_json(smaller.summary, {**known, "history": []})
        smaller.record(smaller.summary)
    perplexity = None if was is None or now is None else (was, now)
    return SmallerRun(done, perplexity, (before, stored_bytes(run.model)))


def _measured(run: "LoadedRun") -> float | None:
    try:
        return run.experiment.valid_perplexity()
    except OSError:  # its text is elsewhere
        return None


def read_tables(run: Run, model: nn.Module) -> None:
    """Gives a model, as its recipe made it, the tables of a compressed run; weights come later.

    Raises:
        ValueError: If what the run says of them is damaged or does not fit the model.
    """
    try:
        described = read_json(run.tables)
        swap_tables(model, {name: build(table) for name, table in described.items()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{run.tables} is damaged or of another version: {error}") from error


def swap_tables(model: nn.Module, tables: Mapping[str, nn.Module]) -> None:
    """Puts embeddings in the places of others, also where an output layer is tied to them."""
    for name, new in tables.items():
        old = model.get_submodule(name)
        for part in [*model.modules()]:
            for child, module in part.named_children():
                if module is old:
                    setattr(part, child, new)
            if isinstance(part, OutputLayer) and getattr(part, "tied", None):
                if cast(Any, part).tied.module is old:
                    _tie(part, old, new)


def _tie(head: Any, old: nn.Module, new: nn.Module) -> None:  # noqa: ANN401
    first = (bands(old) or [None])[0]
    if isinstance(head, AdaptiveSoftmax) and first is not None and first.projection is not None:
        # Clusters are in the first band's space, which its projection brings to the table's width.
        head.cluster_weight = nn.Parameter(F.linear(head.cluster_weight, first.projection).detach())
    head.tied.module = new
    share_rows(new, *getattr(head, "cutoffs", ()), head.num_classes)


def _tables(model: nn.Module) -> dict[str, nn.Module]:
    found = {
        tied_table(part): None
        for part in model.children()
        if isinstance(part, Embedding | nn.Embedding)
    }
    return {name: part for name, part in model.named_modules() if part in found}
