"""A vocabulary cut to the tokens that a text uses: table, heads and tokenizer follow."""

import copy
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from define.huggingface.sample import count_tokens
from define.huggingface.tables import chosen_tables

__all__ = ["VOCABULARIES", "trim"]

VOCABULARIES = ("vocab", "merges", "added_tokens", "sentencepiece", "spiece", "tokenizer.model")
"""How files begin that hold the whole vocabulary in another form than `tokenizer.json`."""


@torch.no_grad()
def trim(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lines: Iterable[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model and a tokenizer without the tokens that a text never uses.

    Kept are the tokens of the text, special and added ones, single characters, and what merges
    of a BPE pass through on the way to a kept token: texts of the same words give the same tokens,
    under new ids, and the same outputs.

    Args:
        model: A plain model; it stays as it is.
        tokenizer: Its tokenizer, a fast one: unigram, BPE, WordPiece or whole words.
        lines: The text.

    Returns:
        A model of the same class with fewer rows, and its tokenizer.

    Raises:
        TypeError: If the tokenizer is of another kind.
        ValueError: If the text has no tokens.
    """
    size = chosen_tables(model, None)[0].weight.shape[0]
    counts = count_tokens(tokenizer, lines, size)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise TypeError(f"{type(tokenizer).__name__} must be a fast tokenizer to be trimmed.")
    state = json.loads(backend.to_str())
    used = {id_ for id_ in counts.nonzero().flatten().tolist()}
    used |= {token["id"] for token in state["added_tokens"]} | set(tokenizer.all_special_ids)
    used |= set(_config_ids(model.config.to_dict()))
    kept = _trim_tokenizer(state, used)
    kept = [id_ for id_ in kept if id_ < size]
    place = {old: new for new, old in enumerate(kept)}
    new = _trimmed_model(model, size, kept, place)
    return new, _rebuilt(tokenizer, state, place)


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
        single = (t.removeprefix(prefix) if prefix else t for t in vocabulary)
        if kind != "WordLevel":
            characters = zip(vocabulary.values(), single, strict=True)
            used |= {id_ for id_, token in characters if len(token) == 1}
        if kind == "BPE":
            _keep_merges(model, used)
    added = {token["id"] for token in state["added_tokens"]}
    known = set(range(len(model["vocab"]))) if kind == "Unigram" else set(vocabulary.values())
    kept = sorted(used & (known | added))
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
    results = [a + b.removeprefix(prefix) if prefix else a + b for a, b in pairs]
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


def _config_ids(config: dict[str, Any]) -> Iterable[int]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _config_ids(value)
        elif str(key).endswith(("_token_id", "_token_ids")) and value is not None:
            yield from value if isinstance(value, list) else [value]


def _with_new_ids(config: Any, place: dict[int, int]) -> None:  # noqa: ANN401
    for key, value in vars(config).items():
        if hasattr(value, "to_dict"):
            _with_new_ids(value, place)
        elif key.endswith(("_token_id", "_token_ids")) and value is not None:
            ids = [place.get(id_, id_) for id_ in (value if isinstance(value, list) else [value])]
            vars(config)[key] = ids if isinstance(value, list) else ids[0]


def _trimmed_model(
    model: PreTrainedModel, size: int, kept: list[int], place: dict[int, int]
) -> PreTrainedModel:
    new = copy.deepcopy(model)
    chosen = torch.tensor(kept, device=model.device)
    seen: set[int] = set()
    for tensor in (*new.parameters(), *new.buffers()):  # tables, heads, biases of heads
        if tensor.shape[:1] == (size,) and tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            tensor[: len(kept)] = tensor[chosen].clone()
    for module in new.modules():
        index = getattr(module, "padding_idx", None)
        if isinstance(index, int) and getattr(module, "num_embeddings", None) == size:
            cast(Any, module).padding_idx = place.get(index)
    new.resize_token_embeddings(len(kept), mean_resizing=False)
    for config in (new.config, getattr(new, "generation_config", None)):
        if config is not None:
            _with_new_ids(config, place)
    return new


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
