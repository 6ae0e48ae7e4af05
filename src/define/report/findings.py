"""Everything that is measured on one embedding, and as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from define.measures.bands import FrequencyBand, frequency_bands, token_nll
from define.measures.correlation import Correlation, correlations
from define.measures.layers import LayerCorrelation, layers_by
from define.measures.neighbours import nearest_neighbours
from define.measures.rows import Table, held, table_shape
from define.measures.similarity import Similarity
from define.measures.summary import RunSummary
from define.measures.word_map import WordMap, word_map
from define.models import LanguageModel

__all__ = ["Findings", "Subject", "analyze", "find_words", "findings_json", "some_words"]

_WORD_MARKS = "\u0120\u2581"
"""Stand for the space before a word in vocabularies of subwords: byte-level BPE's, Unigram's."""

_NEIGHBOURS = 8
_MAPPED = 150  # words on the map, at most


@dataclass(frozen=True)
class Subject:
    """An embedding to analyze, and what else is known.

    Attributes:
        name: For the report; of no other subject.
        embedding: What kind it is, such as its class.
        table: The embedding: a module or a (V, m) matrix.
        words: The V words, in the order of their ids.
        settings: The configuration that it comes from, as text.
        counts: (V,) how often each word occurs in training, if that is known.
        summary: Parameters, speed and perplexities, as training left them.
        model: The language model, for perplexity by frequency; wants `counts` and `batches`.
        batches: Text for it: consecutive (tokens, targets).
    """

    name: str
    embedding: str
    table: Table
    words: Sequence[str]
    settings: str
    counts: Tensor | None = None
    summary: RunSummary | None = None
    model: LanguageModel | None = None
    batches: Iterable[tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True)
class Findings:
    """What was measured on one embedding.

    Attributes:
        name: Of the subject.
        embedding: Its kind.
        settings: The configuration, as text.
        summary: Parameters, speed and perplexities, as training left them, if it was a run of ours.
        unweighted: Correlation between the embedding's dimensions, each word counted once.
        weighted: The same, each word counted as often as it occurs in training, if that is known.
        layers: From the Map to the output, each word counted once; empty without layers.
        weighted_layers: The same by frequency; empty where frequencies are not known.
        bands: Perplexity by the frequency of the target; empty without a model and its text.
        neighbours: For each chosen word, its nearest words and their cosines.
        map: Some words in a plane: the most frequent ones where frequencies are known.
        similarities: Likeness to other embeddings, by their names.
    """

    name: str
    embedding: str
    settings: str
    summary: RunSummary | None
    unweighted: Correlation
    weighted: Correlation | None
    layers: tuple[LayerCorrelation, ...]
    weighted_layers: tuple[LayerCorrelation, ...]
    bands: tuple[FrequencyBand, ...]
    neighbours: Mapping[str, Sequence[tuple[str, float]]]
    map: WordMap
    similarities: Mapping[str, Similarity]


def analyze(
    subject: Subject, chosen: Sequence[int], similarities: Mapping[str, Similarity]
) -> Findings:
    """Measures an embedding, and the model around it where there is one.

    Rows that are computed are computed once for all that reads them, and once more with what the
    layers give on the way; a table of more than 1 GiB is computed at each reading instead.

    Args:
        subject: The embedding, with its trained weights.
        chosen: Ids whose neighbours are looked up.
        similarities: Likeness to other embeddings, by their names.

    Raises:
        ValueError: If there is not one word for each row.
    """
    words, counts = subject.words, subject.counts
    size, _ = table_shape(subject.table)
    if len(words) != size:
        raise ValueError(f"{subject.name} has {len(words)} words and {size} rows in its table.")
    table = held(subject.table)
    weightings = [None] if counts is None else [None, counts]
    layers = layers_by(subject.table, weightings)
    # The last layer is the embedding's output: no need to go through the vocabulary again.
    outputs = (
        [found[-1].correlation for found in layers]
        if layers[0]
        else correlations(table, weightings)
    )
    bands = ()
    if subject.model is not None and counts is not None and subject.batches is not None:
        bands = frequency_bands(*token_nll(subject.model, subject.batches), counts)
    cosines, near = nearest_neighbours(table, torch.tensor(chosen, dtype=torch.int64), _NEIGHBOURS)
    neighbours = {
        words[id_]: [(words[int(other)], cosine) for other, cosine in zip(*pair, strict=True)]
        for id_, *pair in zip(chosen, near.tolist(), cosines.tolist(), strict=True)
    }
    return Findings(
        subject.name,
        subject.embedding,
        subject.settings,
        subject.summary,
        outputs[0],
        None if counts is None else outputs[1],
        layers[0],
        () if counts is None else layers[1],
        bands,
        neighbours,
        word_map(table, torch.tensor(frequent_words(words, counts)[:_MAPPED])),
        similarities,
    )


def frequent_words(words: Sequence[str], counts: Tensor | None) -> list[int]:
    """All ids, the most frequent first; without frequencies, words of letters alone, by their ids.

    Vocabularies of subwords are mostly sorted by frequency, but for special tokens and single
    bytes, which these leave out.
    """
    if counts is not None:
        return counts.argsort(descending=True, stable=True).tolist()
    spelled = [i for i, word in enumerate(words) if _spelled(word, 2)]
    return spelled if len(spelled) >= 3 else list(range(len(words)))


def find_words(words: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Ids of some words; in a vocabulary of subwords, of those that begin a word.

    Raises:
        ValueError: If a word is not there; it is named.
    """
    ids = {word: i for i, word in enumerate(words)}
    spellings = [[word, *(mark + word for mark in _WORD_MARKS)] for word in wanted]
    for word, spelled in zip(wanted, spellings, strict=True):
        if ids.keys().isdisjoint(spelled):
            raise ValueError(f"{word!r} is not among the {len(words)} words of the vocabulary.")
    return [next(ids[s] for s in reversed(spelled) if s in ids) for spelled in spellings]


def some_words(words: Sequence[str], counts: Tensor | None, number: int = 8) -> list[int]:
    """Ids of words to look at where none are named: ever rarer ones, of letters alone.

    Their ranks rise geometrically, from the 100th of such words on where there are enough.
    """
    order = frequent_words(words, counts)
    spelled = [i for i in order if _spelled(words[i]) and (counts is None or counts[i] > 2)]
    first, last = min(100, len(spelled) // 10), len(spelled) - 1
    if last < number:
        return spelled or order[:number]  # a text without such words
    steps = [(last / max(first, 1)) ** (step / number) for step in range(number)]
    return list(dict.fromkeys(spelled[round(max(first, 1) * step)] for step in steps))


def _spelled(word: str, least: int = 4) -> bool:
    """Whether a word is of letters alone; the marks that subwords begin with do not count."""
    word = word.lstrip(_WORD_MARKS)
    return len(word) >= least and word.isalpha()


def findings_json(findings: Sequence[Findings], words: Sequence[str]) -> str:
    """The numbers as a JSON array, one object a run; matrices of m x m alone are left out.

    Dimensions are counted from 0, as in tensors. A number that is not finite is null.
    """
    runs = [
        {
            "name": run.name,
            "embedding": run.embedding,
            "summary": None if run.summary is None else vars(run.summary),
            "unweighted": _correlation(run.unweighted),
            "weighted_by_frequency": None if run.weighted is None else _correlation(run.weighted),
            "layers": [_layer(layer) for layer in run.layers],
            "layers_weighted_by_frequency": [_layer(layer) for layer in run.weighted_layers],
            "bands": [{**vars(band), "perplexity": band.perplexity} for band in run.bands],
            "neighbours": run.neighbours,
            "map": {
                "words": [words[i] for i in run.map.ids.tolist()],
                "places": run.map.places.tolist(),
                "explained": run.map.explained,
            },
            "similarities": {name: vars(found) for name, found in run.similarities.items()},
        }
        for run in findings
    ]
    return json.dumps(_without_nan(runs), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _correlation(found: Correlation) -> dict[str, Any]:
    return {
        "dimensions": len(found.matrix),
        "mean_absolute_correlation": found.mean_absolute,
        "effective_rank": found.effective_rank,
        "participation_ratio": found.participation_ratio,
        "constant_dimensions": found.constant,
        "nonfinite_dimensions": found.nonfinite,
        "singular_values": found.singular_values.tolist(),
    }


def _layer(layer: LayerCorrelation) -> dict[str, Any]:
    return {
        "name": layer.name,
        "groups": layer.groups,
        **_correlation(layer.correlation),
        "between_groups": layer.between_groups.tolist(),
    }


def _without_nan(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_without_nan(item) for item in value]
    return value
