"""What a recipe returns, and how it is carried out: the same for every kind of model."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import nn

from define.files import write_text
from define.measures import RunSummary, Subject
from define.training.placement import Placement
from define.training.run import Run
from define.training.settings import Fitting
from define.training.stopping import StopSignals

if TYPE_CHECKING:
    from define.training.module import TrainingModule  # imports Lightning

__all__ = ["Evaluation", "Experiment"]

Model = TypeVar("Model", bound=nn.Module)
Data = TypeVar("Data")
Settings = TypeVar("Settings", bound=Fitting)


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model on a split; as text, what the command line says.

    Args:
        perplexity: Per token.
    """

    perplexity: float

    def __str__(self) -> str:
        return f"perplexity {self.perplexity:.2f}"


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC, Generic[Model, Data, Settings]):
    """A model, what it learns from, and how.

    A kind of experiment says what its batches are and how a step of training is made of one, what
    a run folder needs of its data, and what is measured of the model. Training, going on with a run
    that was stopped, and the summary are here.

    Args:
        model: The model, initialized.
        data: What it learns from.
        training: How to train.
        seed: That of the initialization, used for training too.
        start_from: Folder of a run whose best weights training begins with.
    """

    model: Model
    data: Data
    training: Settings
    seed: int
    start_from: Path | None = None

    @cached_property
    def corpus(self) -> Any:  # noqa: ANN401
        """The opened data; opened once, so that its parts agree even if files change meanwhile."""
        data: Any = self.data
        return data.open()

    @staticmethod
    @abstractmethod
    def settings_of_run(run: Run) -> dict[str, Path]:
        """Settings of the recipe that a run replaces by files of its own, by name."""

    @abstractmethod
    def check(self) -> None:
        """Raises a `ValueError` where the data do not fit the settings, before any training."""

    @abstractmethod
    def check_same(self, run: Run, remedy: str) -> None:
        """Raises a `ValueError`, which ends with the remedy, if a run has another vocabulary."""

    @abstractmethod
    def write_vocabulary(self, run: Run) -> None:
        """Writes what a run needs to read and write text."""

    @abstractmethod
    def train_batches(self, rank: int, world_size: int) -> Any:  # noqa: ANN401
        """Batches of one process: iterable, with `__len__`, `state_dict`, `load_state_dict`."""

    @abstractmethod
    def valid_batches(self, rank: int, world_size: int) -> Iterable[Any]:
        """Batches of one process for validation."""

    @abstractmethod
    def training_module(self, steps: int) -> "TrainingModule":
        """What makes a step of training of a batch, for a training of so many steps."""

    @abstractmethod
    def evaluate(self, split: str = "test") -> Evaluation:
        """Measures the model as it is on a split; a kind may take more options."""

    def valid_perplexity(self) -> float:
        """That of the model as it is on the validation split, and nothing else."""
        return self.evaluate("valid").perplexity

    @abstractmethod
    def subjects(self, run: Run, summary: RunSummary, split: str) -> list[Subject]:
        """The embeddings of the model as it is, to analyze, with its losses on a split.

        Args:
            run: The run that the model is of.
            summary: What is known of it.
            split: "train", "valid" or "test".
        """

    def prepare(self) -> None:
        """Changes the initialized model before a training that begins anew."""
        if self.start_from is not None:
            start = Run.open(self.start_from)
            self.check_same(start, "start from another run")
            start.load_weights(self.model)

    def measurements(self) -> Mapping[str, float]:
        """What else to log at each validation, by name."""
        return {}

    def scores(self, run: Run) -> dict[str, Any]:
        """What the summary says of the trained model beside what training found out.

        May write what belongs to it into the run's folder.
        """
        return {"test_perplexity": self.evaluate("test").perplexity}

    def generate(self, prompt: str, length: int, **options: Any) -> str:  # noqa: ANN401
        """Continues a prompt.

        Raises:
            ValueError: If this kind of model does not.
        """
        raise ValueError("This model continues no text: it translates (define translate).")

    def perplexity(self, text: str) -> float:
        """Perplexity per token of a text.

        Raises:
            ValueError: If this kind of model does not predict one text alone.
        """
        raise ValueError("This model predicts translations: evaluate measures it on pairs.")

    def translate(self, lines: list[str], **options: Any) -> list[str]:  # noqa: ANN401
        """Translates sentences.

        Raises:
            ValueError: If this kind of model does not.
        """
        raise ValueError("This is a run of a language model: it does not translate.")

    def train(self, run: Run, config: Callable[[], str] | None = None) -> dict[str, Any]:
        """Trains into a run folder, or goes on where an earlier call was stopped.

        Args:
            run: The run's folder; no other process may train there.
            config: Makes what `config.yaml` is to hold, if the training is not begun yet. It is
                called when no other process can train there any more, and raises if the folder
                became no place for this training.

        Returns:
            The summary that is also written to `summary.json`.

        Raises:
            FileNotFoundError: If it is to start from what is no trained run.
            ValueError: If the data do not fit the settings, or the run folder, or the run to start
                from, has another vocabulary or model, a damaged file, or is in use.
            Stopped: If a signal asked for it. All is saved.
        """
        from define.training.fit import fit  # imports Lightning

        first = Placement.of(self.training).rank == 0  # the others only train, and say nothing
        if not first:
            logging.getLogger("define").setLevel(logging.ERROR)
        run.path.mkdir(parents=True, exist_ok=True)
        with StopSignals() as signals, run.locked() if first else nullcontext():
            run.check()
            if first and config is not None:
                text = config()
                if not run.begun:
                    write_text(run.config, text)
            self.check()
            if run.vocabulary.exists():
                self.check_same(run, "train into another folder")
            if not run.resumable:
                self.prepare()
            if first and not run.resumable:
                self.write_vocabulary(run)
                run.record(run.config, run.vocabulary, run.tokenizer)
            summary = self.summarize(run, fit(self, run, signals))
            run.write_json(run.summary, summary)
            run.record(run.summary)
            return summary

    def summarize(self, run: Run, found: Mapping[str, Any]) -> dict[str, Any]:
        """The summary of a run.

        Args:
            run: The run.
            found: What training found out, see `fit`.
        """
        model: Any = self.model
        counts = model.parameter_counts()
        perplexities = [perplexity for _, perplexity in found["history"]]
        if found["start_perplexity"] is not None:
            perplexities.append(found["start_perplexity"])
        return {
            "name": run.path.resolve().name,
            "embedding": type(model.embedding).__name__,
            "unit": counts.unit,
            "context": counts.context,
            "input_output": counts.input_output,
            "tokens_per_second": found["tokens"] / found["seconds"],
            "peak_memory": found["peak_memory"],
            "valid_perplexity": min(perplexities),
            "seed": self.seed,
            "tokens": found["tokens"],
            "history": found["history"],
            **self.scores(run),
        }
