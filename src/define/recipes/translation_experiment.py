"""What a recipe for translation returns, and how it is carried out."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from define.data import BytePairs, ParallelText, Sentences, TokenBatches
from define.softmax.chunked import IGNORED
from define.training import Run, Training

if TYPE_CHECKING:
    from define.huggingface.translation import TranslationModel

__all__ = [
    "TranslationExperiment",
    "bleu",
    "evaluate_translation",
    "perplexity",
    "train_translation",
    "translate",
]

_SHOWN = 10  # translations in a run's report

logger = logging.getLogger("define")


@dataclass(frozen=True)
class TranslationExperiment:
    """A translation model, the pairs that it learns, and how.

    Args:
        model: The model, initialized.
        data: The pairs.
        training: How to train; its sizes of batches are those of language models and not used.
        seed: That of the initialization, used for training too.
        max_tokens: The most places of a batch, source and target together, over all devices.
        label_smoothing: Share of the probability that is spread over all words in training.
        beams: Beams of the translations that are scored.
        batch_size: Sentences translated at a time.
    """

    model: "TranslationModel"
    data: ParallelText
    training: Training
    seed: int
    max_tokens: int
    label_smoothing: float
    beams: int
    batch_size: int

    @property
    def device(self) -> torch.device:
        """Where to translate: a GPU where there is one, unless training shall not use it."""
        gpu = torch.cuda.is_available() and self.training.accelerator != "cpu"
        return torch.device("cuda" if gpu else "cpu")


def train_translation(experiment: TranslationExperiment, run: Run) -> dict[str, Any]:
    """Trains an experiment into a run folder, or goes on where an earlier call was stopped.

    At the end the best weights translate validation and test text; `translations.md` shows ten of
    them, `test.translations` has all of the test.

    Returns:
        The summary that is also written to `summary.json`.

    Raises:
        ValueError: If the run folder has another tokenizer.
    """
    from define.training.fit import fit  # imports Lightning
    from define.training.translation import Translating

    training, corpus = experiment.training, experiment.data.open()
    tokenizer = corpus.tokenizer
    pairs = {split: corpus.pairs(split) for split in ("train", "valid", "test")}

    def batches(split: str, shuffle: bool, rank: int, world_size: int) -> TokenBatches:
        size = experiment.max_tokens // world_size
        return _batches(
            pairs[split], size, shuffle, seed=experiment.seed, rank=rank, world_size=world_size
        )

    # Before training, since files that do not fit are an error, and so are pairs that are too long.
    corpus.lines("test")
    for split in pairs:
        batches(split, False, 0, training.devices)
    run.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    saved = run.path / "tokenizer.json"
    if saved.exists() and BytePairs.read(saved).fingerprint != tokenizer.fingerprint:
        raise ValueError(
            f"{saved} ({BytePairs.read(saved).fingerprint}) is another tokenizer than that of "
            f"{experiment.data.path} ({tokenizer.fingerprint}): train into another folder."
        )
    tokenizer.write(saved)
    tokenizer.vocabulary.write(run.vocabulary)

    found = fit(
        experiment.model,
        training,
        partial(batches, "train", True),
        partial(batches, "valid", False),
        run,
        experiment.seed,
        module=partial(Translating, label_smoothing=experiment.label_smoothing),
    )
    counts = experiment.model.parameter_counts()
    valid_score, signature = _score(experiment, "valid")
    source, reference = corpus.lines("test")
    translations = translate(experiment, source, title="test")
    score, _ = bleu(translations, reference)
    (run.path / "test.translations").write_text("".join(f"{t}\n" for t in translations), "utf-8")
    summary = {
        "name": run.path.resolve().name,
        "embedding": type(experiment.model.embedding).__name__,
        "unit": counts.unit,
        "context": counts.context,
        "input_output": counts.input_output,
        "tokens_per_second": found["tokens"] / found["seconds"],
        "peak_memory": found["peak_memory"],
        "valid_perplexity": min(perplexity for _, perplexity in found["history"]),
        "test_perplexity": perplexity(experiment, "test"),
        "seed": experiment.seed,
        "tokens": found["tokens"],
        "history": found["history"],
        "valid_bleu": valid_score,
        "test_bleu": score,
        "bleu_signature": signature,
    }
    (run.path / "translations.md").write_text(
        _report(summary, source, reference, translations), "utf-8"
    )
    run.write_json(run.summary, summary)
    return summary


def evaluate_translation(
    experiment: TranslationExperiment,
    run: Run,
    split: str = "test",
    batch_size: int | None = None,
    beams: int | None = None,
) -> tuple[float, float, str]:
    """Perplexity, BLEU and its signature of a trained run on a split of its pairs.

    Args:
        experiment: The run's experiment, with the run's tokenizer.
        run: The run; its best weights are read into the model.
        split: "train", "valid" or "test".
        batch_size: Sentences at a time, the recipe's if omitted.
        beams: The recipe's if omitted; 1 is greedy and quick.
    """
    run.load_weights(experiment.model)
    return perplexity(experiment, split), *_score(experiment, split, beams, batch_size)


def perplexity(experiment: TranslationExperiment, split: str) -> float:
    """Perplexity per target token, the end of a sentence counted, of the model as it is."""
    pairs, device, model = experiment.data.open().pairs(split), experiment.device, experiment.model
    model.to(device).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for source, target in _batches(pairs, experiment.max_tokens, shuffle=False):
            total += model(source.to(device), target.to(device)).double().sum().item()
            count += int((target != IGNORED).sum())
    return math.exp(total / count)


def bleu(translations: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """BLEU of a corpus, in percent, and the signature that says how it was taken (sacrebleu).

    Reference:
        | A Call for Clarity in Reporting BLEU Scores (Post 2018)

    Raises:
        ValueError: If the numbers of sentences differ.
    """
    from sacrebleu.metrics.bleu import BLEU

    if len(translations) != len(references):
        raise ValueError(f"{len(translations)=} must equal {len(references)=}.")
    metric = BLEU()
    score = metric.corpus_score(list(translations), [list(references)]).score
    return score, str(metric.get_signature())


@torch.no_grad()
def translate(
    experiment: TranslationExperiment,
    lines: Sequence[str],
    *,
    beams: int | None = None,
    batch_size: int | None = None,
    title: str | None = None,
) -> list[str]:
    """Translates sentences, those of similar length together; the order of the lines is kept.

    Beam search divides scores by length. A line without words stays empty. A line that the model
    has not places for is cut, with a warning that says so.

    Args:
        experiment: Has the model, which is left in evaluation mode, and the tokenizer.
        lines: Sentences.
        beams: Width of the search, the recipe's if omitted; 1 takes the likeliest token each time.
        batch_size: Sentences at a time, the recipe's if omitted.
        title: Name of a progress bar on standard error; none if omitted.

    Raises:
        ValueError: If an argument is below 1.
    """
    from transformers import GenerationConfig

    beams = experiment.beams if beams is None else beams
    batch_size = experiment.batch_size if batch_size is None else batch_size
    if beams < 1 or batch_size < 1:
        raise ValueError(f"{beams=} and {batch_size=} must be at least 1.")
    model, tokenizer = experiment.model, experiment.data.open().tokenizer
    ids, longest = tokenizer.encode(lines), model.config.max_position_embeddings
    for number, row in enumerate(ids, 1):
        if len(row) > longest:
            logger.warning(
                "Line %d has %d tokens: only the first %d are translated.",
                *(number, len(row) - 1, longest - 1),
            )
            row[longest - 1 :] = [tokenizer.end]
    texts = [""] * len(lines)
    order = sorted((i for i, row in enumerate(ids) if len(row) > 1), key=lambda i: len(ids[i]))
    marian: Any = model.to(device := experiment.device).eval().to_marian().eval()
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for part in tqdm(reversed(parts), title, len(parts), disable=None if title else True):
        width = len(ids[part[-1]])
        rows = [[*ids[i], *[tokenizer.padding] * (width - len(ids[i]))] for i in part]
        source = torch.tensor(rows, device=device)
        found = marian.generate(
            source,
            attention_mask=(source != tokenizer.padding).long(),
            generation_config=GenerationConfig(
                num_beams=beams,
                do_sample=False,
                length_penalty=1.0,
                max_length=min(longest, 2 * width + 20),
                suppress_tokens=[tokenizer.padding, tokenizer.unknown],
                pad_token_id=tokenizer.padding,
                eos_token_id=tokenizer.end,
                decoder_start_token_id=tokenizer.padding,
            ),
        )
        for i, text in zip(part, tokenizer.decode(found[:, 1:].tolist()), strict=True):
            texts[i] = text
    return texts


def _batches(
    pairs: tuple[Sentences, Sentences],
    max_tokens: int,
    shuffle: bool,
    **options: int,
) -> TokenBatches:
    return TokenBatches(*pairs, max_tokens, shuffle=shuffle, **options)


def _score(
    experiment: TranslationExperiment,
    split: str,
    beams: int | None = None,
    batch_size: int | None = None,
) -> tuple[float, str]:
    source, reference = experiment.data.open().lines(split)
    translations = translate(experiment, source, beams=beams, batch_size=batch_size, title=split)
    score, signature = bleu(translations, reference)
    return score, f"beams:{experiment.beams if beams is None else beams}|{signature}"


def _report(
    summary: dict[str, Any],
    source: Sequence[str],
    reference: Sequence[str],
    translations: Sequence[str],
) -> str:
    """Markdown with translations of the test that are evenly spaced: none is chosen."""
    shown = range(0, len(source), max(1, len(source) // _SHOWN))[:_SHOWN]
    parts = [
        f"# {summary['name']}: translations of the test",
        f"BLEU {summary['test_bleu']:.2f} ({summary['bleu_signature']}), perplexity per token "
        f"{summary['test_perplexity']:.2f}. {len(shown)} of {len(source)} lines, evenly spaced.",
    ]
    for i in shown:
        parts.append(
            f"**{i + 1}**\n\n- source: {source[i]}\n- reference: {reference[i]}\n"
            f"- ours: {translations[i]}"
        )
    return "\n\n".join(parts) + "\n"
