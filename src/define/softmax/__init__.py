"""Output layers: hidden states in, negative log-likelihoods or predictions out."""

from define.softmax.adaptive import AdaptiveSoftmax
from define.softmax.base import OutputLayer
from define.softmax.cutoffs import AdaptiveSoftmaxCost, choose_cutoffs
from define.softmax.full import Softmax, TiedSoftmax

__all__ = [
    "AdaptiveSoftmax",
    "AdaptiveSoftmaxCost",
    "OutputLayer",
    "Softmax",
    "TiedSoftmax",
    "choose_cutoffs",
]
