"""A translation model, the pairs that it learns, and how."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from define.data import Subwords
from define.files import write_text
from define.measures import RunSummary, Subject, Translation
from define.readers import read_text
from define.softmax.chunked import IGNORED
from define.training import Evaluation, Experiment, Fitting, Run
from define.translation.bleu import bleu, bleu_metric
from define.translation.parallel import ParallelText
from define.translation.token_batches import TokenBatches

if TYPE_CHECKING:
    from define.translation.model import TranslationModel  # imports transformers
    from define.translation.training import Translating

__all__ = ["TranslationEvaluation", "TranslationExperiment"]

_SHOWN = 10  # translations in a run's report


@dataclass(frozen=True)
class TranslationEvaluation(Evaluation):
    """Perplexity and BLEU.

    Args:
        perplexity: Per target token, the end of a sentence counted.
        bleu: In percent.
        signature: How BLEU was taken.
    """

    bleu: float
    signature: str

    def __str__(self) -> str:
        return f"{super().__str__()}, BLEU {self.bleu:.2f} ({self.signature})"


@dataclass(frozen=True, kw_only=True)
class TranslationExperiment(Experiment["TranslationModel", ParallelText, Fitting]):
    """A translation model, the pairs that it learns, and how; see `Experiment`.

    At the end of training the best weights translate validation and test text; `translations.md`
    in the run's folder shows ten of them, `test.translations` has all of the test.

    Args:
        max_tokens: The most places of a batch, source and target together, over all devices.
        label_smoothing: Share of the probability that is spread over all words in training.
        num_beams: Beams of the translations that are scored.
        batch_size: Sentences translated at a time.

    Raises:
        ValueError: If `num_beams` or `batch_size` is below 1.
    """

    max_tokens: int
    label_smoothing: float = 0.1
    num_beams: int = 4
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.num_beams < 1 or self.batch_size < 1:
            sizes = f"num_beams={self.num_beams} and batch_size={self.batch_size}"
            raise ValueError(f"{sizes} must be at least 1.")

    @staticmethod
    def settings_of_run(run: Run) -> dict[str, Path]:
        return {"data.tokenizer": run.path / "tokenizer.json"}

    def check(self) -> None:
        bleu_metric(self.data.target)  # whether it is there: for the scores
        self.corpus.lines("test")
        for split in ("train", "valid", "test"):
            self._batches(split, shuffle=False)

    def check_same(self, run: Run, remedy: str) -> None:
        path = self.settings_of_run(run)["data.tokenizer"]
        # Merges are sorted as their results are. How white space is noted may change.
        ours, theirs = (
            tokenizer.vocabulary.fingerprint
            for tokenizer in (self.corpus.tokenizer, Subwords.read(path))
        )
        if theirs != ours:
            raise ValueError(
                f"{path} ({theirs}) is another tokenizer than that of {self.data.path} ({ours}): "
                f"{remedy}."
            )

    def write_vocabulary(self, run: Run) -> None:
        self.corpus.tokenizer.write(run.path / "tokenizer.json")
        self.corpus.tokenizer.vocabulary.write(run.vocabulary)

    def train_batches(self, rank: int, world_size: int) -> TokenBatches:
        return self._batches("train", shuffle=True, rank=rank, world_size=world_size)

    def valid_batches(self, rank: int, world_size: int) -> TokenBatches:
        return self._batches("valid", shuffle=False, rank=rank, world_size=world_size)

    def _batches(
        self, split: str, *, shuffle: bool, rank: int = 0, world_size: int = 1
    ) -> TokenBatches:
        source, target = self.corpus.pairs(split)
        return TokenBatches(
            source,
            target,
            self.max_tokens,
            shuffle=shuffle,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )

    def training_module(self, steps: int) -> "Translating":
        from define.translation.training import Translating

        return Translating(self.model, self.training, steps, self.label_smoothing)

    def evaluate(
        self,
        split: str = "test",
        *,
        batch_size: int | None = None,
        num_beams: int | None = None,
    ) -> TranslationEvaluation:
        """Perplexity and BLEU of the model as it is on a split of its pairs.

        Args:
            split: "train", "valid" or "test".
            batch_size: Sentences at a time, the recipe's if omitted.
            num_beams: The recipe's if omitted; 1 is greedy and quick.
        """
        evaluation, _ = self._evaluate(split, batch_size, num_beams)
        return evaluation

    def _evaluate(
        self, split: str, batch_size: int | None = None, num_beams: int | None = None
    ) -> tuple[TranslationEvaluation, list[str]]:
        """What was measured, and the translations."""
        num_beams = self.num_beams if num_beams is None else num_beams
        source, reference = self.corpus.lines(split)
        found = self.translate(source, num_beams=num_beams, batch_size=batch_size, title=split)
        score, signature = bleu(found, reference, self.data.target)
        signature = f"beams:{num_beams}|{signature}"
        return TranslationEvaluation(self._perplexity(split), score, signature), found

    def valid_perplexity(self) -> float:
        return self._perplexity("valid")

    def _perplexity(self, split: str) -> float:
        """Perplexity per target token, the end of a sentence counted, of the model as it is."""
        _, nll = self.token_nll(split)
        return nll.double().mean().exp().item()

    @torch.no_grad()
    def token_nll(self, split: str) -> tuple[Tensor, Tensor]:
        """Target tokens of a split and their negative log-likelihoods in nats, both (tokens,)."""
        model, device = self._placed(), self.device
        found = []
        for source, target, _ in self._batches(split, shuffle=False):
            nll = model(source.to(device), target.to(device)).cpu()
            found.append((target[target != IGNORED], nll[target != IGNORED]))
        targets, losses = zip(*found, strict=True)
        return torch.cat(targets), torch.cat(losses)

    def subjects(self, run: Run, summary: RunSummary, split: str) -> list[Subject]:
        """The tables of both languages, or the one that they share."""
        corpus, model = self.corpus, self.model
        words = corpus.tokenizer.vocabulary.words
        source, target = (side.counts(len(words)) for side in corpus.pairs("train"))
        corpus.pairs(split)  # an error before any measure, if it is not there
        tables = [(summary.name, model.embedding, source + target)]
        if model.target_embedding is not None:
            tables = [
                (f"{summary.name} ({self.data.source})", model.embedding, source),
                (f"{summary.name} ({self.data.target})", model.target_embedding, target),
            ]
        translations, file = [], run.path / "test.translations"
        if file.is_file():  # a compressed run has none
            run.check(file)
            ours = read_text(file).split("\n")
            translations = list(map(Translation, *corpus.lines("test"), ours))
        settings, losses = read_text(run.config), partial(self.token_nll, split)
        return [
            Subject(
                name,
                type(table).__name__,
                table,
                words,
                settings,
                counts,
                summary,
                losses if table is model.decoder_embedding else None,
                translations if table is model.embedding else (),
            )
            for name, table, counts in tables
        ]

    def translate(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        lines: Sequence[str],
        *,
        num_beams: int | None = None,
        batch_size: int | None = None,
        title: str | None = None,
    ) -> list[str]:
        """Translates sentences with the model as it is.

        Args:
            lines: Sentences; their order is kept.
            num_beams: Width of the search, the recipe's if omitted; 1 is greedy and quick.
            batch_size: Sentences at a time, the recipe's if omitted.
            title: Name of a progress bar on standard error; none if omitted.

        Raises:
            ValueError: If an argument is below 1.
        """
        from define.translation.search import translate  # imports transformers

        return translate(
            self._placed(),
            self.corpus.tokenizer,
            lines,
            num_beams=self.num_beams if num_beams is None else num_beams,
            batch_size=self.batch_size if batch_size is None else batch_size,
            title=title,
        )

    @property
    def device(self) -> torch.device:
        """Where to translate: a GPU where there is one, unless training shall not use it."""
        gpu = torch.cuda.is_available() and self.training.accelerator != "cpu"
        return torch.device("cuda" if gpu else "cpu")

    def _placed(self) -> "TranslationModel":
        return self.model.to(self.device).eval()

    def scores(self, run: Run) -> dict[str, Any]:
        valid, _ = self._evaluate("valid")
        test, translations = self._evaluate("test")
        found = run.path / "test.translations"
        write_text(found, "".join(f"{t}\n" for t in translations))
        run.record(found)
        source, reference = self.corpus.lines("test")
        report = self._report(run.path.resolve().name, test, translations)
        write_text(run.path / "translations.md", report)
        return {
            "test_perplexity": test.perplexity,
            "valid_bleu": valid.bleu,
            "test_bleu": test.bleu,
            "bleu_signature": test.signature,
            "texts": hashlib.sha256("\n".join([*source, *reference]).encode()).hexdigest()[:16],
        }

    def _report(self, name: str, test: TranslationEvaluation, translations: Sequence[str]) -> str:
        """Markdown with translations of the test that are evenly spaced: none is chosen."""
        source, reference = self.corpus.lines("test")
        shown = range(0, len(source), max(1, len(source) // _SHOWN))[:_SHOWN]
        parts = [
            f"# {name}: translations of the test",
            f"BLEU {test.bleu:.2f} ({test.signature}), perplexity per token "
            f"{test.perplexity:.2f}. {len(shown)} of {len(source)} lines, evenly spaced.",
        ]
        for i in shown:
            parts.append(
                f"**{i + 1}**\n\n- source: {source[i]}\n- reference: {reference[i]}\n"
                f"- ours: {translations[i]}"
            )
        return "\n\n".join(parts) + "\n"
