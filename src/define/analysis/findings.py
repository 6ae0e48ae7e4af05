"""Everything that is measured on one trained run, and as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from define.analysis.bands import FrequencyBand, frequency_bands, token_nll
from define.analysis.correlation import Correlation, correlation
from define.analysis.layers import LayerCorrelation, layer_correlations
from define.analysis.neighbours import nearest_neighbours
from define.analysis.rows import Table
from define.analysis.similarity import Similarity
from define.analysis.summary import RunSummary
from define.analysis.word_map import WordMap, word_map
from define.models import LanguageModel

__all__ = ["Findings", "analyze", "findings_json", "some_words"]

_NEIGHBOURS = 8
_MAPPED = 150  # words on the map


@dataclass(frozen=True)
class Findings:
    """What was measured on one run.

    Attributes:
        summary: Parameters, speed and perplexities, as training left them.
        settings: The run's configuration, as text.
        unweighted: Correlation between the embedding's dimensions, each word counted once.
        weighted: The same, each word counted as often as it occurs in training.
        layers: From the Map to the output, each word counted once; empty without layers.
        weighted_layers: The same by frequency.
        bands: Perplexity by the frequency of the target.
        neighbours: For each chosen word, its nearest words and their cosines.
        map: The most frequent words in a plane.
        similarities: Likeness to other embeddings, by their names.
    """

    summary: RunSummary
    settings: str
    unweighted: Correlation
    weighted: Correlation
    layers: tuple[LayerCorrelation, ...]
    weighted_layers: tuple[LayerCorrelation, ...]
    bands: tuple[FrequencyBand, ...]
    neighbours: Mapping[str, Sequence[tuple[str, float]]]
    map: WordMap
    similarities: Mapping[str, Similarity]


def analyze(
    model: LanguageModel,
    words: Sequence[str],
    counts: Tensor,
    batches: Iterable[tuple[Tensor, Tensor]],
    summary: RunSummary,
    settings: str,
    chosen: Sequence[int],
    similarities: Mapping[str, Similarity],
) -> Findings:
    """Measures a trained model.

    Args:
        model: The model, with its trained weights.
        words: The V words, in the order of their ids.
        counts: (V,) how often each occurs in training.
        batches: The text for perplexity by frequency: consecutive (tokens, targets).
        summary: What training left.
        settings: The run's configuration, for the report.
        chosen: Ids whose neighbours are looked up.
        similarities: Likeness to other embeddings, by their names.
    """
    embedding: Table = model.embedding
    layers = layer_correlations(embedding)
    weighted_layers = layer_correlations(embedding, counts)
    frequent = counts.argsort(descending=True, stable=True)[:_MAPPED]
    cosines, near = nearest_neighbours(
        embedding, torch.tensor(chosen, dtype=torch.int64), _NEIGHBOURS
    )
    neighbours = {
        words[id_]: [(words[int(other)], cosine) for other, cosine in zip(*pair, strict=True)]
        for id_, *pair in zip(chosen, near.tolist(), cosines.tolist(), strict=True)
    }
    return Findings(
        summary,
        settings,
        # The last layer is the embedding's output: no need to go through the vocabulary again.
        layers[-1].correlation if layers else correlation(embedding),
        weighted_layers[-1].correlation if layers else correlation(embedding, counts),
        layers,
        weighted_layers,
        frequency_bands(*token_nll(model, batches), counts),
        neighbours,
        word_map(embedding, frequent),
        similarities,
    )


def some_words(words: Sequence[str], counts: Tensor, number: int = 8) -> list[int]:
    """Ids of words to look at where none are named: ever rarer ones, of letters alone.

    Their ranks rise geometrically, from the 100th of such words on where there are enough.
    """
    order = counts.argsort(descending=True, stable=True).tolist()
    spelled = [i for i in order if _spelled(words[int(i)]) and counts[i] > 2]
    first, last = min(100, len(spelled) // 10), len(spelled) - 1
    if last < number:
        return spelled or order[:number]  # a text without such words
    steps = [(last / max(first, 1)) ** (step / number) for step in range(number)]
    return list(dict.fromkeys(spelled[round(max(first, 1) * step)] for step in steps))


def _spelled(word: str) -> bool:
    return len(word) > 3 and word.isalpha()


def findings_json(findings: Sequence[Findings], words: Sequence[str]) -> str:
    """The numbers as a JSON array, one object a run; matrices of m x m alone are left out.

    Dimensions are counted from 0, as in tensors. A number that is not finite is null.
    """
    runs = [
        {
            "name": run.summary.name,
            "embedding": run.summary.embedding,
            "unweighted": _correlation(run.unweighted),
            "weighted_by_frequency": _correlation(run.weighted),
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
