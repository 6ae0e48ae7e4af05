"""A language model, its text, and how it learns it."""

import logging
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from define.data import SPLITS, PyDocs, Segments, Statistics, Text, Vocabulary
from define.embedding import start_from_text
from define.measures import RunSummary, Subject, embedding_scalars, perplexity_of, token_nll
from define.models import LanguageModel
from define.readers import read_text
from define.training.continuous_cache import ContinuousCache, cached_nll, choose_cache
from define.training.evaluation import mean_nll
from define.training.experiment import Evaluation, Experiment
from define.training.placement import Placement
from define.training.run import Run
from define.training.settings import Training

if TYPE_CHECKING:
    from define.training.language_modeling import LanguageModeling

__all__ = ["LanguageEvaluation", "LanguageModelExperiment"]

logger = logging.getLogger("define")


@dataclass(frozen=True)
class LanguageEvaluation(Evaluation):
    """Perplexity of a language model.

    Args:
        perplexity: Per token.
        cache: The continuous cache that was mixed in.
        statistics: Of the split.
    """

    cache: ContinuousCache | None = None
    statistics: Statistics | None = None

    def __str__(self) -> str:
        said, found = super().__str__(), self.statistics
        if found is not None:
            if found.tokens != found.words:
                said += f", {found.perplexity_per_word(self.perplexity):.2f} per word"
            said += (
                f", {found.perplexity_per_character(self.perplexity):.3f} per character; "
                f"{found.tokens:,} tokens, {found.unknown / found.tokens:.1%} <unk>"
            )
        if self.cache is not None:
            size, theta, weight = self.cache.size, self.cache.theta, self.cache.weight
            said += f" with cache size {size}, theta {theta}, weight {weight}"
        if found is not None and found.warning:
            said += f". {found.warning}"
        return said


@dataclass(frozen=True, kw_only=True)
class LanguageModelExperiment(Experiment[LanguageModel, Text | PyDocs, Training]):
    """A language model, the text that it learns, and how; see `Experiment`."""

    @staticmethod
    def settings_of_run(run: Run) -> dict[str, Path]:
        return {"data.vocabulary": run.vocabulary}

    def check(self) -> None:
        world_size = Placement.of(self.training).world_size
        self.training.check_parts(world_size)
        if self.training.log_correlation and self.training.shard_parameters:
            raise ValueError("log_correlation=True needs the whole table: shard_parameters=False.")
        self.train_batches(0, world_size)
        self.segments("valid")
        self.segments("test")
        if os.environ.get("LOCAL_RANK", "0") == "0":  # not each device
            for found in map(self.corpus.statistics, SPLITS):
                logger.info("%s", found)
                if found.warning:
                    logger.warning("%s", found.warning)

    def check_same(self, run: Run, remedy: str) -> None:
        ours, theirs = self.corpus.vocabulary, Vocabulary.read(run.vocabulary)
        if theirs.fingerprint != ours.fingerprint:
            raise ValueError(
                f"{run.vocabulary} has {len(theirs)} words (fingerprint {theirs.fingerprint}), the "
                f"text {len(ours)} ({ours.fingerprint}): {remedy}."
            )

    def write_vocabulary(self, run: Run) -> None:
        self.corpus.write(run.path)

    def train_batches(self, rank: int, world_size: int) -> Segments:
        settings = self.training
        return Segments(
            self.corpus.split("train"),
            settings.batch_size // world_size,
            settings.length,
            random_lengths=settings.random_lengths,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )

    def valid_batches(self, rank: int, world_size: int) -> Segments:
        columns = max(1, self.training.evaluation_batch_size // world_size)
        return self.segments("valid", columns, rank, world_size)

    def training_module(self, steps: int) -> "LanguageModeling":
        from define.training.language_modeling import LanguageModeling

        return LanguageModeling(self.model, self.training, steps)

    def subjects(self, run: Run, summary: RunSummary, split: str) -> list[Subject]:
        return [
            Subject(
                summary.name,
                summary.embedding,
                self.model.embedding,
                self.corpus.vocabulary.words,
                read_text(run.config),
                self.corpus.counts,
                summary,
                partial(token_nll, self.model, self.segments(split)),
            )
        ]

    def prepare(self) -> None:
        if self.training.start_from_text and self.start_from is None:
            start_from_text(self.model.embedding, self.corpus.split("train"))
        super().prepare()

    def measurements(self) -> Mapping[str, float]:
        if not self.training.log_correlation:
            return {}
        return embedding_scalars(self.model.embedding)

    def scores(self, run: Run) -> dict[str, Any]:
        texts = " ".join(map(self.corpus.digest, ("valid", "test")))
        return {**super().scores(run), "texts": texts}

    def segments(
        self, split: str, batch_size: int | None = None, rank: int = 0, world_size: int = 1
    ) -> Segments:
        """Batches of a split that hold every token once, for evaluation.

        Args:
            split: "train", "valid" or "test".
            batch_size: Columns of text; the recipe's if omitted.
            rank: Of this process.
            world_size: The number of processes.
        """
        return Segments(
            self.corpus.split(split),
            self.training.evaluation_batch_size if batch_size is None else batch_size,
            self.training.length,
            drop_last=False,
            rank=rank,
            world_size=world_size,
        )

    def evaluate(
        self,
        split: str = "test",
        *,
        batch_size: int | None = None,
        cache: ContinuousCache | None = None,
        tune_cache: bool = False,
    ) -> LanguageEvaluation:
        """Perplexity of the model as it is on a split of its text.

        Args:
            split: "train", "valid" or "test".
            batch_size: Columns of text; the recipe's if omitted. With 1 every token has all tokens
                before it as context.
            cache: Remembers recent hidden states, for each column its own.
            tune_cache: Whether to choose theta and weight of the cache (of that size) on the
                validation text first.
        """
        if tune_cache:
            segments = self.segments("valid", batch_size)
            cache = choose_cache(self.model, segments, cache or ContinuousCache(), title="cache")
        segments = self.segments(split, batch_size)
        if cache is None:
            nll = mean_nll(self.model, segments, split)
        else:
            settings = cache.size, [cache.theta], [cache.weight]
            nll = cached_nll(self.model, segments, *settings, title=split).item()
        return LanguageEvaluation(perplexity_of(nll), cache, self.corpus.statistics(split))

    def generate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        prompt: str,
        length: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        ban: Sequence[str] = (),
        lines: int | None = None,
        seed: int = 1,
    ) -> str:
        """Continues a prompt with the model as it is; the text itself need not be there.

        Args:
            prompt: Text as the training text; may be empty.
            length: Tokens to add.
            temperature: See `LanguageModel.generate`.
            top_k: See `LanguageModel.generate`.
            ban: Tokens that are never added, such as `<unk>`.
            lines: Stops after so many line ends.
            seed: Of the samples; those of another prompt are others.

        Raises:
            ValueError: If an argument is out of its range, or a token to ban is not there.
        """
        if lines is not None and lines < 1:
            raise ValueError(f"{lines=} must be at least 1.")
        corpus = self.corpus
        known = {word: i for i, word in enumerate(corpus.vocabulary.words)} if ban else {}
        if unknown := [word for word in ban if word not in known]:
            raise ValueError(f"{unknown} to ban are not in the vocabulary.")
        given = corpus.encode(prompt)
        new = (
            self.model.eval()
            .generate(
                # A line's end goes before: what follows is the beginning of a line.
                torch.tensor([[corpus.end, *given]]),
                length,
                temperature=temperature,
                top_k=top_k,
                banned=[known[word] for word in ban],
                # With the same draws, different prompts would soon go on with the same words.
                generator=torch.Generator().manual_seed(seed + zlib.crc32(prompt.encode())),
            )[0]
            .tolist()
        )
        if lines is not None:
            ends = [i for i, token in enumerate(new) if token == corpus.end]
            new = new[: ends[lines - 1]] if len(ends) >= lines else new
        # The prompt is given back as it was written, also where words of it are unknown.
        text = corpus.decode([*given, *new])
        return prompt.rstrip(" \t\r") + text[len(corpus.decode(given)) :]

    def perplexity(self, text: str) -> float:
        r"""Perplexity per token of any text with the model as it is; line ends count.

        Args:
            text: As the training text; each `\n` ends a line, and so does its end.

        Raises:
            ValueError: If it is empty.
        """
        corpus = self.corpus
        ids = corpus.encode(text.rstrip("\n"))
        if not ids:
            raise ValueError("The text is empty: it has no tokens.")
        tokens = torch.tensor([corpus.end, *ids, corpus.end])
        batches = Segments(tokens, 1, self.training.length, drop_last=False)
        return perplexity_of(mean_nll(self.model, batches))
