"""What a recipe returns, and how it is carried out."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from define.data import END_OF_LINE, PyDocs, Segments, Text, Vocabulary
from define.measures import embedding_scalars
from define.models import LanguageModel
from define.training import (
    ContinuousCache,
    Run,
    Training,
    cached_nll,
    choose_cache,
    mean_nll,
)

__all__ = ["Experiment", "evaluate", "generate", "train", "tune_cache"]


@dataclass(frozen=True)
class Experiment:
    """A model, the text that it learns, and how.

    Args:
        model: The model, initialized.
        data: The text.
        training: How to train.
        seed: That of the initialization, used for training too.
        start_from: Folder of a run whose best weights training begins with.
    """

    model: LanguageModel
    data: Text | PyDocs
    training: Training
    seed: int
    start_from: Path | None = None


def train(experiment: Experiment, run: Run) -> dict[str, Any]:
    """Trains an experiment into a run folder, or goes on where an earlier call was stopped.

    Returns:
        The summary that is also written to `summary.json`.

    Raises:
        FileNotFoundError: If it is to start from what is no trained run.
        ValueError: If the run folder has another vocabulary, or the run to start from has, or
            another model.
    """
    from define.training.fit import fit  # imports Lightning

    model, training = experiment.model, experiment.training
    corpus = experiment.data.open()
    train_ids, valid_ids, test_ids = (corpus.split(name) for name in ("train", "valid", "test"))
    # Before training, since a text that is too short for its columns is an error.
    Segments(train_ids, training.batch_size, training.length)
    Segments(valid_ids, training.evaluation_batch_size, training.length, drop_last=False)
    test = Segments(test_ids, training.evaluation_batch_size, training.length, drop_last=False)
    run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if run.vocabulary.exists():
        _check_vocabulary(run, corpus.vocabulary, "train into another folder")
    if experiment.start_from is not None and not run.checkpoint.is_file():
        start = Run.open(experiment.start_from)
        _check_vocabulary(start, corpus.vocabulary, "start from another run")
        start.load_weights(model)
    corpus.vocabulary.write(run.vocabulary)

    def batches(ids: Any, size: int, rank: int, world_size: int, **options: Any) -> Segments:  # noqa: ANN401
        columns = max(1, size // world_size)
        return Segments(ids, columns, training.length, rank=rank, world_size=world_size, **options)

    found = fit(
        model,
        training,
        partial(
            batches,
            train_ids,
            training.batch_size,
            random_lengths=training.random_lengths,
            seed=experiment.seed,
        ),
        partial(batches, valid_ids, training.evaluation_batch_size, drop_last=False),
        run,
        experiment.seed,
        _correlation if training.log_correlation else None,
    )
    counts = model.parameter_counts()
    summary = {
        "name": run.path.resolve().name,
        "embedding": type(model.embedding).__name__,
        "unit": counts.unit,
        "context": counts.context,
        "input_output": counts.input_output,
        "tokens_per_second": found["tokens"] / found["seconds"],
        "peak_memory": found["peak_memory"],
        "valid_perplexity": min(perplexity for _, perplexity in found["history"]),
        "test_perplexity": math.exp(mean_nll(model, test, "test")),
        "seed": experiment.seed,
        "tokens": found["tokens"],
        "history": found["history"],
    }
    run.write_json(run.summary, summary)
    return summary


def _check_vocabulary(run: Run, ours: Vocabulary, remedy: str) -> None:
    theirs = Vocabulary.read(run.vocabulary)
    if theirs.fingerprint != ours.fingerprint:
        raise ValueError(
            f"{run.vocabulary} has {len(theirs)} words (fingerprint {theirs.fingerprint}), the "
            f"text {len(ours)} ({ours.fingerprint}): {remedy}."
        )


def _correlation(model: LanguageModel) -> dict[str, float]:
    return embedding_scalars(model.embedding)


def evaluate(
    experiment: Experiment,
    run: Run,
    split: str = "test",
    batch_size: int | None = None,
    cache: ContinuousCache | None = None,
) -> float:
    """Perplexity of a trained run on a split of its text.

    Args:
        experiment: The run's experiment, with the run's vocabulary.
        run: The run; its best weights are read into the model.
        split: "train", "valid" or "test".
        batch_size: Columns of text; the recipe's if omitted. With 1 every token has all tokens
            before it as context.
        cache: Remembers recent hidden states, for each column its own.
    """
    run.load_weights(experiment.model)
    segments = _segments(experiment, split, batch_size)
    if cache is None:
        return math.exp(mean_nll(experiment.model, segments, split))
    settings = cache.size, [cache.theta], [cache.weight]
    return math.exp(cached_nll(experiment.model, segments, *settings, title=split))


def tune_cache(
    experiment: Experiment, run: Run, cache: ContinuousCache, batch_size: int | None = None
) -> ContinuousCache:
    """The cache of the given size that is best on a run's validation text.

    Args:
        experiment: The run's experiment, with the run's vocabulary.
        run: The run; its best weights are read into the model.
        cache: Has the size.
        batch_size: Columns of text; the recipe's if omitted.
    """
    run.load_weights(experiment.model)
    segments = _segments(experiment, "valid", batch_size)
    return choose_cache(experiment.model, segments, cache, title="cache")


def _segments(experiment: Experiment, split: str, batch_size: int | None) -> Segments:
    settings = experiment.training
    return Segments(
        experiment.data.open().split(split),
        settings.evaluation_batch_size if batch_size is None else batch_size,
        settings.length,
        drop_last=False,
    )


def generate(
    experiment: Experiment,
    run: Run,
    prompt: str,
    length: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 1,
) -> str:
    """Continues a prompt with a trained run; the text itself need not be there.

    Args:
        experiment: The run's experiment, with the run's vocabulary.
        run: The run; its best weights are read into the model.
        prompt: Words as in the training text, separated by spaces; may be empty.
        length: Words to add.
        temperature: See `LanguageModel.generate`.
        top_k: See `LanguageModel.generate`.
        seed: Of the samples.
    """
    run.load_weights(experiment.model)
    vocabulary = experiment.data.open().vocabulary
    # A line's end goes before: what follows is the beginning of a line.
    ids = vocabulary.encode([END_OF_LINE, *prompt.split()])
    new = experiment.model.eval().generate(
        torch.tensor([ids]),
        length,
        temperature=temperature,
        top_k=top_k,
        generator=torch.Generator().manual_seed(seed),
    )
    lines = [[]]
    for word in (*prompt.split(), *vocabulary.decode(new[0].tolist())):
        if word == END_OF_LINE:
            lines.append([])
        else:
            lines[-1].append(word)
    return "\n".join(" ".join(words) for words in lines)
