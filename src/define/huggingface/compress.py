"""Smaller tables for a checkpoint: compressed ones, or a vocabulary cut to what a text uses."""

import copy
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from define.compression import Compressed, compress_table, fit_embedding, stored_bytes
from define.embedding import tied_table
from define.embedding.base import table_size
from define.huggingface.files import check_tokenizer, read_tokenizer
from define.huggingface.install import TiedHead
from define.huggingface.model import register
from define.huggingface.replace import replace_embedding
from define.huggingface.sample import count_tokens
from define.huggingface.tables import chosen_tables, find_tables

__all__ = ["VOCABULARIES", "Compression", "Size", "compress", "compress_to", "load_plain", "trim"]

VOCABULARIES = ("vocab", "merges", "added_tokens", "sentencepiece", "spiece", "tokenizer.model")
"""How files begin that hold the whole vocabulary in another form than `tokenizer.json`."""

# Settings of generation: those that hold without some tokens, and those that do not.
_NAMING = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "lang_to_id", "task_to_id")
_REFUSED = ("force_words_ids", "sequence_bias", "forced_decoder_ids")


@dataclass(frozen=True)
class Size:
    """Parameters and bytes, each tensor counted once however often it is used."""

    parameters: int
    bytes: int


@dataclass(frozen=True)
class Compression:
    """What a compression did to a model: relative errors of tables, sizes before and after."""

    linear_error: float  # of the best linear factorization with this Map
    error: float
    head_error: float | None  # None if no head is tied
    embedding: tuple[Size, Size]
    model: tuple[Size, Size]
    tables: Mapping[str, Compressed] = field(default_factory=dict)  # tried, for a number of bytes

    def __str__(self) -> str:
        lines = [f"{name}:\n{found}" for name, found in self.tables.items()]
        linear = "" if self.tables else f" (linear {self.linear_error:.4f})"
        lines.append(f"relative error of the table: {self.error:.4f}{linear}")
        if self.head_error is not None:
            lines.append(f"relative error of the tied head's table: {self.head_error:.4f}")
        for name, (before, after) in (("embedding", self.embedding), ("model", self.model)):
            parameters = f"{before.parameters:,} -> {after.parameters:,} parameters"
            if not self.tables:
                parameters += f" ({after.parameters / before.parameters:.3f})"
            share = f" ({after.bytes / before.bytes:.4f})" if self.tables else ""
            lines.append(f"{name}: {parameters}, {before.bytes:,} -> {after.bytes:,} bytes{share}")
        return "\n".join(lines)


def compress(
    model: PreTrainedModel,
    factory: Callable[[int, int, int | None], nn.Module],
    weights: Tensor | None = None,
    *,
    rounds: int = 40,
    seed: int = 0,
    progress: bool | None = None,
) -> tuple[PreTrainedModel, Compression]:
    """A model with an embedding that is fitted to its token table in that one's place.

    A head that was tied to the table is tied to the Map, and its projection is the least-squares
    one; a constant that this leaves out is the same for all words and changes no probability.

    Args:
        model: A plain model of transformers; it stays as it is.
        factory: Makes the embedding from (num_embeddings, embedding_dim, padding_idx).
        weights: What an error in each row costs, such as counts of the tokens (V).
        rounds: Most rounds of :func:`~define.fit_embedding`.
        seed: Of the fit.
        progress: Whether to show a progress bar; if omitted, on a terminal alone.

    Raises:
        ValueError: If the model has no input embedding or one of this package already, or its head
            is tied and the Map as wide as the table.
    """
    table = chosen_tables(model, None)[0]
    register(type(model.config))  # refuses what could not be loaded again
    old, whole = _size(table.module), _size(model)
    rows = table.weight.detach().float()
    num_embeddings, embedding_dim = rows.shape
    embedding = factory(num_embeddings, embedding_dim, table.padding_idx)
    map_dim = table_size(tied_table(embedding))[1]
    if table.heads and map_dim == embedding_dim:
        raise ValueError(
            f"{map_dim=} must be below {embedding_dim=}: the head is tied to the Map through a "
            "projection."
        )
    fit = fit_embedding(rows, embedding, weights, rounds=rounds, seed=seed, progress=progress)
    model = replace_embedding(model, embedding)
    new = _size(embedding)
    head = model.get_output_embeddings()
    head_error = _fit_head(head, rows, weights) if isinstance(head, TiedHead) else None
    return model, Compression(fit.start, fit.error, head_error, (old, new), (whole, _size(model)))


def compress_to(
    model: PreTrainedModel,
    weights: Tensor | None = None,
    *,
    share: float | None = None,
    max_bytes: int | None = None,
    metrics: Sequence[Tensor] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[PreTrainedModel, Compression]:
    """A model whose token tables are stored within a number of bytes, in the best way for them.

    These are all that :func:`~define.huggingface.find_tables` finds. A head that was tied to a
    table reads the same stored rows.

    Args:
        model: A plain model of transformers; it stays as it is.
        weights: What an error in each row costs, such as counts of the tokens (V).
        share: Most bytes over those of the tables in float32, for each of them.
        max_bytes: Most bytes in all; give either.
        metrics: What an error costs by direction, for each table, see `sample.sensitivity`.
        report: Called with a line for each way that was tried.

    Raises:
        ValueError: If the model has no input embedding or one of this package already, or nothing
            keeps to the budget.
    """
    first = chosen_tables(model, None)[0]
    register(type(model.config))  # refuses what could not be loaded again
    tables = find_tables(model)
    whole = sum(4 * table.weight.numel() for table in tables)
    found: dict[str, Compressed] = {}
    for i, table in enumerate(tables):
        part = None if max_bytes is None else max_bytes * 4 * table.weight.numel() // whole
        fits = len(table.weight) == len(first.weight)
        found[table.name] = compress_table(
            table.weight,
            weights if fits else None,
            metric=None if metrics is None else metrics[i],
            share=share,
            max_bytes=part,
            padding_idx=table.padding_idx,
            report=lambda line, name=table.name: report(f"{name}: {line}"),
        )
    embeddings = {name: each.embedding for name, each in found.items()}
    keys = {name: None if name == first.name else name for name in embeddings}
    new = replace_embedding(model, {keys[name]: each for name, each in embeddings.items()})
    sizes = (
        _size(nn.ModuleList([table.module for table in tables])),
        _size(nn.ModuleList(embeddings.values())),
    )
    error = found[first.name].taken.error
    tied = error if first.heads else None
    return new, Compression(error, error, tied, sizes, (_size(model), _size(new)), found)


@torch.no_grad()
def _fit_head(head: TiedHead, table: Tensor, weights: Tensor | None) -> float:
    """Sets the head's projection so that its table is the nearest, up to a constant row."""
    map = cast(Tensor, head.tied.weight).detach().double()
    weights = table.new_ones(len(table)) if weights is None else weights
    w = (weights / weights.sum()).double()[:, None].to(table.device)
    # A row added to the whole table adds the same number to all logits.
    map, rows = map - (w * map).sum(0), table.double() - (w * table).sum(0)
    matrix = torch.linalg.lstsq(w.sqrt() * map, w.sqrt() * rows, driver="gelsd").solution
    cast(nn.Linear, head.projection).weight.copy_(matrix)
    map = map @ matrix
    return float((w * (map - rows).square()).sum() / (w * rows.square()).sum())


def _size(module: nn.Module) -> Size:
    return Size(sum(p.numel() for p in module.parameters()), stored_bytes(module))


def load_plain(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """The model of a checkpoint folder, of its own class, and its tokenizer if it has one.

    Raises:
        FileNotFoundError: If the folder is no checkpoint.
        ValueError: If its model is not one of transformers, or its tokenizer knows more tokens
            than the model.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is no checkpoint folder: it has no config.json.")
    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "define"):
        raise ValueError(f"{folder} already has an embedding of this package.")
    name = (config.architectures or ["(none)"])[0]
    cls = getattr(transformers, name, None)
    if cls is None:
        raise ValueError(
            f"{folder / 'config.json'} names the architecture {name}, not one of transformers."
        )
    model = cls.from_pretrained(folder, dtype="auto")
    if not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab.*")):
        return model, None
    tokenizer = read_tokenizer(folder)
    check_tokenizer(model, tokenizer)
    return model, tokenizer


@torch.no_grad()
def trim(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lines: Iterable[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and a tokenizer without the tokens that a text never uses.

    Kept are the tokens of the text, special and added ones, single characters, and what merges
    of a BPE pass through on the way to a kept token: texts of the same words give the same tokens,
    under new ids, and the same outputs. So are ids that a configuration names though the tokenizer
    has no such token, behind all others; settings of generation that suppress tokens or name
    languages are renumbered too.

    Raises:
        TypeError: If the tokenizer is no fast one of unigrams, BPE, WordPiece or whole words.
        ValueError: If the text has no tokens, or a setting of generation names tokens in a way that
            is not understood.
    """
    size = chosen_tables(model, None)[0].weight.shape[0]
    counts = count_tokens(tokenizer, lines, size)
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise TypeError(f"{type(tokenizer).__name__} must be a fast tokenizer to be trimmed.")
    state = json.loads(backend.to_str())
    used = {*counts.nonzero().flatten().tolist(), *tokenizer.all_special_ids}
    used |= {token["id"] for token in state["added_tokens"]}
    generation = getattr(model, "generation_config", None)
    for setting in _REFUSED:
        if getattr(generation, setting, None):
            raise ValueError(f"generation_config.{setting} names tokens: set it to None to trim.")
    configs = [config for config in (model.config, generation) if config is not None]
    named = {id_ for config in configs for _, _, ids in _ids_of(config) for id_ in ids}
    used |= named
    kept = [id_ for id_ in _trim_tokenizer(state, used) if id_ < size]
    kept += sorted(named & set(range(size)) - set(kept))
    place = {old: new for new, old in enumerate(kept)}
    return _trimmed_model(model, size, kept, place), _rebuilt(tokenizer, state, place)


def _trim_tokenizer(state: dict[str, Any], used: set[int]) -> list[int]:
    """Cuts the vocabulary of a tokenizer's JSON in place, with new ids; returns the old ones."""
    model = state["model"]
    kind = model.get("type") or ("BPE" if "merges" in model else "?")
    if kind not in ("Unigram", "BPE", "WordPiece", "WordLevel"):
        raise TypeError(f"A tokenizer of type {kind!r} cannot be trimmed.")
    vocabulary: dict[str, int] = {} if kind == "Unigram" else model["vocab"]
    if kind == "Unigram":
        pieces = model["vocab"]
        used.add(model["unk_id"] or 0)
        used |= {id_ for id_, (piece, _) in enumerate(pieces) if len(piece) == 1}
    else:
        used |= {vocabulary[t] for t in (model.get("unk_token"),) if t in vocabulary}
        prefix = model.get("continuing_subword_prefix") or ""
        if kind != "WordLevel":
            used |= {id_ for t, id_ in vocabulary.items() if len(t.removeprefix(prefix)) == 1}
        if kind == "BPE":
            _keep_merges(model, used)
    known = set(range(len(model["vocab"]))) if kind == "Unigram" else set(vocabulary.values())
    kept = sorted(used & (known | {token["id"] for token in state["added_tokens"]}))
    place = {old: new for new, old in enumerate(kept)}
    if kind == "Unigram":
        model["vocab"] = [piece for id_, piece in enumerate(model["vocab"]) if id_ in place]
        if model["unk_id"] is not None:
            model["unk_id"] = place[model["unk_id"]]
    else:
        model["vocab"] = {t: place[id_] for t, id_ in vocabulary.items() if id_ in place}
    for token in state["added_tokens"]:
        token["id"] = place[token["id"]]
    _renumber(state.get("post_processor"), place)
    padding = state.get("padding")
    if padding and padding.get("pad_id") in place:
        padding["pad_id"] = place[padding["pad_id"]]
    return kept


def _keep_merges(model: dict[str, Any], used: set[int]) -> None:
    """Keeps the merges that lead to kept tokens, and what they merge."""
    vocabulary = model["vocab"]
    pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    prefix = model.get("continuing_subword_prefix") or ""
    results = [a + b.removeprefix(prefix) for a, b in pairs]
    # Every way to a kept token: which one a word takes depends on its neighbours.
    wanted = {token for token, id_ in vocabulary.items() if id_ in used}
    kept = []
    for index in reversed(range(len(pairs))):  # parts are older than what they make
        if results[index] in wanted:
            wanted |= set(pairs[index])
            kept.append(index)
    model["merges"] = [model["merges"][index] for index in reversed(kept)]
    used |= {vocabulary[token] for token in wanted if token in vocabulary}


def _renumber(part: Any, place: dict[int, int]) -> None:  # noqa: ANN401
    """New ids in what a tokenizer puts around texts."""
    if isinstance(part, list):
        for value in part:
            _renumber(value, place)
    elif isinstance(part, dict):
        for key, value in part.items():
            if key in ("sep", "cls") and isinstance(value, list):
                part[key] = [value[0], place[value[1]]]
            elif key == "ids":
                part[key] = [place[id_] for id_ in value]
            else:
                _renumber(value, place)


def _ids_of(config: Any) -> Iterator[tuple[dict[str, Any], str, list[int]]]:  # noqa: ANN401
    """The ids that a configuration and its parts name, and where."""
    for key, value in vars(config).items():
        if hasattr(value, "to_dict"):
            yield from _ids_of(value)
        elif key.endswith(("_token_id", "_token_ids", "_token_index")) and value is not None:
            yield vars(config), key, value if isinstance(value, list) else [value]


def _trimmed_model(
    model: PreTrainedModel, size: int, kept: list[int], place: dict[int, int]
) -> PreTrainedModel:
    new = copy.deepcopy(model)
    for module in new.modules():
        index = getattr(module, "padding_idx", None)
        if isinstance(index, int) and getattr(module, "num_embeddings", None) == size:
            cast(Any, module).padding_idx = place.get(index)
    new.resize_token_embeddings(len(kept), mean_resizing=False)
    old = model.state_dict()
    for name, tensor in new.state_dict().items():  # tables, heads, biases of heads
        if tensor.shape != old[name].shape:
            tensor.copy_(old[name][kept])
    for config in (new.config, getattr(new, "generation_config", None)):
        for owner, key, ids in list(_ids_of(config)) if config is not None else ():
            new_ids = [place.get(id_, id_) for id_ in ids]
            owner[key] = new_ids if isinstance(owner[key], list) else new_ids[0]
        for key in _NAMING:
            if ids := getattr(config, key, None):
                setattr(config, key, _moved(ids, place) or None)
    return new


def _moved(ids: Any, place: dict[int, int]) -> Any:  # noqa: ANN401
    """New ids in a dictionary, or in a list of ids or of lists of them: without what is gone."""
    if isinstance(ids, dict):
        return {name: place[id_] for name, id_ in ids.items() if id_ in place}
    parts = [part if isinstance(part, list) else [part] for part in ids]
    moved = [[place[id_] for id_ in part] for part in parts if place.keys() >= {*part}]
    return moved if isinstance(ids[0], list) else [id_ for part in moved for id_ in part]


def _rebuilt(
    tokenizer: PreTrainedTokenizerBase, state: dict[str, Any], place: dict[int, int]
) -> PreTrainedTokenizerBase:
    """The tokenizer with another vocabulary: its files are written, changed and read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), "utf-8")
        settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        added = settings.get("added_tokens_decoder")
        if added:
            settings["added_tokens_decoder"] = {str(place[int(k)]): v for k, v in added.items()}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
        for path in folder.iterdir():
            if path.name.startswith(VOCABULARIES):
                path.unlink()
        return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(folder))
