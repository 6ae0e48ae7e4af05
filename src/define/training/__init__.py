"""Training of language models on Lightning, evaluation, and the run folders it leaves."""

from define.training.evaluation import mean_nll
from define.training.run import Run
from define.training.settings import Training

__all__ = ["Run", "Training", "mean_nll"]
