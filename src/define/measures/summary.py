"""What a training run leaves for comparisons: parameters, speed, perplexities."""

from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from define.measures.table import printable
from define.readers import read_json

__all__ = ["RunSummary"]


@dataclass(frozen=True)
class RunSummary:
    """The outcome of one training run, as written to `summary.json` in its folder.

    Attributes:
        name: Name of the run.
        embedding: Class of the embedding: "Embedding", "ProjectedEmbedding", "DeFINE", ...
        unit: Parameters of DeFINE's unit; 0 without one.
        context: Parameters of the context model.
        input_output: Parameters of input and output tables and what belongs to them.
        tokens_per_second: Speed in training.
        valid_perplexity: Perplexity on the validation text.
        test_perplexity: Perplexity on the test text, if it was measured.
        seed: Seed of the run.
        tokens: Training tokens seen, repetitions counted.
        history: (training tokens seen, validation perplexity) at each validation.
        settings: Recipe and arguments without the seed, if they are known.
        validations: Validations per epoch that were asked for, if it is known.
        peak_memory: Most bytes in use up to the end of training, on a CUDA device by tensors there,
            otherwise by the process; None if unknown.
        valid_bleu: BLEU on the validation text, of a translation model.
        test_bleu: BLEU on the test text.
        bleu_signature: How BLEU was taken.
        texts: A digest of the texts that it was measured on; empty if unknown.
        stored_bytes: Those of a model whose tables were compressed; None where its parameters tell.
        epochs: Epochs that it was trained for, if it is known.
    """

    name: str
    embedding: str
    unit: int
    context: int
    input_output: int
    tokens_per_second: float
    valid_perplexity: float
    test_perplexity: float | None
    seed: int
    tokens: int
    history: tuple[tuple[int, float], ...]
    settings: str = ""
    validations: int | None = None
    peak_memory: int | None = None
    valid_bleu: float | None = None
    test_bleu: float | None = None
    bleu_signature: str = ""
    texts: str = ""
    stored_bytes: int | None = None
    epochs: int | None = None

    @property
    def kind(self) -> tuple[object, ...]:
        """The same for runs that differ in the seed alone, as far as `settings` are known."""
        sizes = self.unit, self.context, self.input_output, self.stored_bytes, self.tokens
        return self.embedding, *sizes, self.settings

    @property
    def epoch_tokens(self) -> float | None:
        """Training tokens an epoch, if that is known; nearly, where its epochs are not."""
        if self.epochs is not None:
            return self.tokens / self.epochs
        if self.validations is None or not self.history:
            return None
        return self.history[-1][0] * self.validations / len(self.history)

    @property
    def total(self) -> int:
        """All parameters."""
        return self.unit + self.context + self.input_output

    @classmethod
    def from_json(cls, path: str | Path) -> "RunSummary":
        """Reads the `summary.json` of a run.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not JSON, or a field is missing, unknown or of a wrong type; the
                file and the field are named.
        """
        content = read_json(Path(path))
        if not isinstance(content, dict):
            raise ValueError(f"{path} must hold one JSON object, not a {type(content).__name__}.")
        names = {field.name for field in fields(cls)}
        if missing := sorted(names - content.keys() - _optional()):
            raise ValueError(f"{path} lacks the field {missing[0]!r}.")
        if unknown := sorted(content.keys() - names):
            raise ValueError(f"{path} has the unknown field {unknown[0]!r}.")
        for field in fields(cls):
            if field.name in content:
                content[field.name] = _checked(path, field.name, field.type, content[field.name])
        return cls(**content)


def _checked(path: str | Path, name: str, kind: object, value: object) -> object:
    """The value of a field, if it is of the field's type as JSON knows it."""
    if name == "history":
        if isinstance(value, list) and all(
            isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair))
            for pair in value
        ):
            return tuple((tokens, perplexity) for tokens, perplexity in value)
    elif kind is str and isinstance(value, str):
        return printable(value)  # half a character, say, could not be written again
    elif (
        (kind is int and _is_number(value) and isinstance(value, int))
        or (kind not in (str, int) and _is_number(value))
        or (value is None and name in {"test_perplexity"} | _optional())
    ):
        return value
    raise ValueError(f"{path} has {value!r} in the field {name!r}.")


def _optional() -> set[str]:
    return {field.name for field in fields(RunSummary) if field.default is not MISSING}


def _is_number(value: object) -> bool:
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float)
