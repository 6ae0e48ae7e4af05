"""Experiments, training on Lightning, evaluation, and the run folders it leaves."""

from define.training.adam import FusedAdam, TransformerAdam
from define.training.continuous_cache import ContinuousCache, cached_nll, choose_cache
from define.training.evaluation import mean_nll
from define.training.experiment import Evaluation, Experiment
from define.training.language_experiment import LanguageEvaluation, LanguageModelExperiment
from define.training.memory import keep_memory, peak_memory
from define.training.nt_asgd import NTASGD, AveragedSGD
from define.training.placement import Placement
from define.training.run import Run
from define.training.schedule import Constant, Cosine, InverseSquareRoot, Schedule, StepDecay
from define.training.settings import MACHINE, Fitting, Training
from define.training.stopping import Stopped, StopSignals

__all__ = [
    "MACHINE",
    "AveragedSGD",
    "Constant",
    "ContinuousCache",
    "Cosine",
    "Evaluation",
    "Experiment",
    "Fitting",
    "FusedAdam",
    "InverseSquareRoot",
    "LanguageEvaluation",
    "LanguageModelExperiment",
    "NTASGD",
    "Placement",
    "Run",
    "Schedule",
    "StepDecay",
    "StopSignals",
    "Stopped",
    "Training",
    "TransformerAdam",
    "cached_nll",
    "choose_cache",
    "keep_memory",
    "mean_nll",
    "peak_memory",
]
