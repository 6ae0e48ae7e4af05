"""A trained run in Python: its model, its words, and what can be done with them."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from define.data import Vocabulary
from define.recipes.settings import open_run
from define.training import Run

if TYPE_CHECKING:
    from define.training import Evaluation, Experiment

__all__ = ["LoadedRun", "load"]


def load(folder: str | Path, *, data_path: str | Path | None = None) -> "LoadedRun":
    """Opens a trained run, in evaluation mode, on the CPU.

    Args:
        folder: Of the run.
        data_path: Where its text is now; where it was if omitted. Only `evaluate` needs it.

    Raises:
        FileNotFoundError: If the folder is no trained run.
        ValueError: If one of its files is damaged or does not fit.

    Example:
        >>> run = load("runs/a")  # doctest: +SKIP
        >>> run.generate("the company", length=20, ban=["<unk>"])  # doctest: +SKIP
        >>> run.perplexity("the company said")  # doctest: +SKIP
    """
    return LoadedRun(Path(folder), None if data_path is None else Path(data_path))


class LoadedRun:
    """A trained run; see `load`.

    Attributes:
        path: Folder of the run.
        experiment: Model, data and settings, as its recipe made them.
        model: The model with the best weights.
    """

    def __init__(self, folder: Path, data_path: Path | None = None) -> None:
        self.experiment: Experiment[Any, Any, Any]
        self.experiment, run = open_run(folder, data_path)
        self.path = run.path
        self.model: nn.Module = self.experiment.model.eval()

    def __repr__(self) -> str:
        return f"<run {self.path}: {type(self.model.embedding).__name__}>"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words or subwords by their ids."""
        return Vocabulary.read(self.path / "vocabulary.txt")

    @cached_property
    def summary(self) -> dict[str, Any]:
        """What training found out, as in `summary.json`; empty where it is not over."""
        return Run(self.path).read_summary()

    def evaluate(self, split: str = "test", **options: Any) -> "Evaluation":  # noqa: ANN401
        """Measures it on a split of its data; options are those of its experiment."""
        return self.experiment.evaluate(split, **options)

    def perplexity(self, text: str) -> float:
        """Perplexity per token of any text; see `LanguageModelExperiment.perplexity`."""
        return self.experiment.perplexity(text)

    def generate(self, prompt: str = "", length: int = 100, **options: Any) -> str:  # noqa: ANN401
        """Continues a prompt; see `LanguageModelExperiment.generate`."""
        return self.experiment.generate(prompt, length, **options)

    def translate(self, lines: list[str], **options: Any) -> list[str]:  # noqa: ANN401
        """Translates sentences; see `TranslationExperiment.translate`."""
        return self.experiment.translate(lines, **options)

    def export(self, folder: str | Path, *, onnx: bool = False) -> list[Path]:
        """Writes it for other programs; see :func:`~define.recipes.exported.export_run`."""
        from define.recipes.exported import export_run

        return export_run(self, Path(folder), onnx=onnx)
