"""How close translations are to those of people."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

__all__ = ["bleu", "bleu_metric"]


def bleu(
    translations: Sequence[str], references: Sequence[str], language: str = ""
) -> tuple[float, str]:
    """BLEU of a corpus, in percent, and the signature that says how it was taken (sacrebleu).

    Reference:
        | A Call for Clarity in Reporting BLEU Scores (Post 2018)

    Args:
        translations: Sentences.
        references: Their translations by people.
        language: Code of the language of both. Chinese, Japanese and Korean (zh, ja, ko) are cut
            into words by rules of their own, as sacrebleu does; all others at spaces and signs.

    Raises:
        ModuleNotFoundError: As `bleu_metric`.
        ValueError: If the numbers of sentences differ.
    """
    if len(translations) != len(references):
        raise ValueError(f"{len(translations)=} must equal {len(references)=}.")
    metric = bleu_metric(language)
    score = metric.corpus_score(list(translations), [list(references)]).score
    return score, str(metric.get_signature())


def bleu_metric(language: str) -> "BLEU":
    """What takes BLEU of a language.

    Raises:
        ModuleNotFoundError: If sacrebleu, or what cuts that language into words, is missing.
    """
    from sacrebleu.metrics.bleu import BLEU

    try:
        return BLEU(trg_lang=language.replace("-", "_").split("_")[0].lower())  # also of zh_CN
    except RuntimeError as error:
        raise ModuleNotFoundError(" ".join(str(error).split())) from error
