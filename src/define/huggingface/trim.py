"""A vocabulary cut to what a text uses, in a model and its tokenizer."""

import copy
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from define.huggingface.sample import count_tokens
from define.huggingface.tables import chosen_tables, without_memory
from define.huggingface.twins import compare, output, tiny_batch, unchecked

__all__ = ["VOCABULARIES", "trim"]

VOCABULARIES = ("vocab", "merges", "added_tokens", "sentencepiece", "spiece", "tokenizer.model")
"""How files begin that hold the whole vocabulary in another form than `tokenizer.json`."""

# Settings of generation: those that hold without some tokens, and those that do not.
_NAMING = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "lang_to_id", "task_to_id")
_REFUSED = ("force_words_ids", "sequence_bias", "forced_decoder_ids")


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
        ValueError: If the text has no tokens, a setting of generation names tokens in a way that is
            not understood, or the smaller model would not load or gives other outputs.
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
    new = _trimmed_model(model, size, kept, place)
    _check(model, new, kept)
    return new, _rebuilt(tokenizer, state, place)


def _check(model: PreTrainedModel, new: PreTrainedModel, kept: list[int]) -> None:
    """The same tokens under other ids must give the same outputs."""
    what = f"A {type(model).__name__} with {len(kept)} tokens"
    made = dict(without_memory(type(new), new.config).named_parameters())
    for name, parameter in new.named_parameters():
        if parameter.shape != made[name].shape:
            raise ValueError(
                f"{what} would not load: its configuration says another size of {name}."
            )
    batch = tiny_batch(new)
    old = torch.tensor(kept, device=model.device)
    ids = {key: old[batch[key]] for key in ("input_ids", "decoder_input_ids") if key in batch}
    try:
        expected, found = output(model, {**batch, **ids}), output(new, batch)
    except Exception as error:  # noqa: BLE001  # whatever a model needs besides tokens
        return unchecked(what, error)
    compare(what, found, expected if found.shape == expected.shape else expected[..., old])


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
    try:
        new.resize_token_embeddings(len(kept))
    except (NotImplementedError, TypeError) as error:
        raise ValueError(
            f"{type(model).__name__} cannot be cut by transformers: {error}"
        ) from error
    old, rows = model.state_dict(), torch.tensor(kept, device=model.device)
    for name, tensor in new.state_dict().items():  # tables, heads, biases of heads
        if tensor.shape != old[name].shape:
            pairs = zip(tensor.shape, old[name].shape, strict=True)
            dim = [a == b for a, b in pairs].index(False)
            if old[name].shape[dim] != size:  # Gemma 3n's tables of the layers may have fewer
                raise ValueError(f"{name} has {old[name].shape[dim]} rows, not {size}: not cut.")
            tensor.copy_(old[name].index_select(dim, rows))
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
