"""Output layers: hidden states in, negative log-likelihoods or predictions out."""

from define.softmax.adaptive import AdaptiveSoftmax
from define.softmax.base import OutputLayer
from define.softmax.full import Softmax, TiedSoftmax

__all__ = ["AdaptiveSoftmax", "OutputLayer", "Softmax", "TiedSoftmax"]
