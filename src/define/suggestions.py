"""What may have been meant by a misspelled name."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question that names the most similar of the known words, or nothing."""
    lower: dict[str, str] = {}
    for name in known:
        for form in (name, name.rpartition(".")[2]):  # --epochs for --training.epochs
            lower.setdefault(form.lstrip("-").lower(), name)
    found = get_close_matches(word.lstrip("-").lower(), lower, n=2, cutoff=0.66)
    names = list(dict.fromkeys(lower[form] for form in found))
    return f" Did you mean {' or '.join(names)}?" if names else ""
