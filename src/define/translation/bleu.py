"""How close translations are to those of people."""

from collections.abc import Sequence

__all__ = ["bleu"]


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
