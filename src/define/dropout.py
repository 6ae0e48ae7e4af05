"""The regularizers of AWD-LSTM: dropout that respects time, words and recurrent weights."""

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from define.mixed_lstm import mixed_lstm, mixed_lstm_pays

__all__ = [
    "LockedDropout",
    "WeightDropLSTM",
    "WordDropout",
    "activation_regularization",
    "drop_words",
    "temporal_activation_regularization",
    "word_dropout",
]

LSTMState = tuple[Float[Tensor, "1 batch hidden"], Float[Tensor, "1 batch hidden"]]


def _check_probability(**named: float) -> None:
    for name, p in named.items():
        if not 0 <= p < 1:
            raise ValueError(f"{name}={p} must be in [0, 1).")


class LockedDropout(nn.Module):
    r"""Dropout with one mask per sequence, the same at every time step.

    .. math:: y_{bt} = x_{bt} \odot \frac{m_b}{1 - p}, \qquad m_b \sim \mathrm{Bernoulli}(1 - p)^n

    The identity in evaluation mode and at p = 0.

    Reference:
        | Merity, Keskar, Socher, "Regularizing and Optimizing LSTM Language Models", ICLR 2018,
        | Section 4.2 (variational dropout), after Gal and Ghahramani 2016.

    Args:
        p: Probability that a feature of a sequence is dropped, in [0, 1).

    Raises:
        ValueError: If p is not in [0, 1).

    Example:
        >>> LockedDropout(0.4)
        LockedDropout(p=0.4)
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        _check_probability(p=p)
        self.p = p

    def forward(
        self, x: Float[Tensor, "*batch time features"]
    ) -> Float[Tensor, "*batch time features"]:
        if not self.training or self.p == 0:
            return x
        # (*B, T, n) * (*B, 1, n)
        return x * F.dropout(torch.ones_like(x[..., :1, :]), self.p)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def word_dropout(
    rows: Float[Tensor, "words features"], p: float, training: bool = True
) -> Float[Tensor, "words features"]:
    r"""Drops whole rows of an embedding table, scaling those that stay by 1 / (1 - p).

    Given the rows of the *distinct* ids of a batch, a dropped word is dropped wherever it stands
    in the batch, as the paper asks.

    Reference:
        | Merity et al. 2018, Section 4.3 (embedding dropout), after Gal and Ghahramani 2016.

    Args:
        rows: One embedding vector per word.
        p: Probability that a word is dropped, in [0, 1).
        training: The rows are returned as they are where this is false.

    Raises:
        ValueError: If p is not in [0, 1).

    Example:
        >>> word_dropout(torch.ones(2, 3), p=0.0)
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """
    _check_probability(p=p)
    if not training or p == 0:
        return rows
    return rows * F.dropout(torch.ones_like(rows[:, :1]), p)


class WordDropout:
    r"""Forward hook of a table that drops whole words; see :func:`drop_words`.

    Args:
        p: Probability that a word is dropped, in [0, 1).
    """

    def __init__(self, p: float) -> None:
        _check_probability(p=p)
        self.p = p

    def __call__(
        self,
        table: nn.Module,
        args: tuple[Int[Tensor, "*batch"], ...],
        *given: Any,  # noqa: ANN401
    ) -> Float[Tensor, "*batch n"]:
        *kwargs, rows = given  # a hook without keywords has none
        if not table.training or self.p == 0:
            return rows
        [ids] = (*args, *(value for named in kwargs for value in named.values()))
        # One number a word of the vocabulary: the same wherever the word stands in the batch.
        words = rows.new_ones(cast(int, table.num_embeddings), 1)
        return rows * F.embedding(ids, word_dropout(words, self.p))


def drop_words(embedding: nn.Module, p: float) -> RemovableHandle:
    """Lets an embedding drop whole words from its input while it is trained.

    The dropout falls on the rows of the table: of the Map where the embedding has one, such as
    :class:`~define.DeFINE`, else on its own. A word is dropped at all its places in a batch, and
    what stays is scaled by 1 / (1 - p). An output layer tied to the table is left alone, and so
    are `weight` and `to_embedding`.

    It is a forward hook since that is the same for every embedding, `torch.nn.Embedding` included,
    and changes neither the class of a module nor the keys of its `state_dict`.

    Reference:
        | Merity et al. 2018, Section 4.3 (embedding dropout), after Gal and Ghahramani 2016.

    Args:
        embedding: `torch.nn.Embedding` or any embedding of this package.
        p: Probability that a word is dropped, in [0, 1).

    Raises:
        ValueError: If p is not in [0, 1).

    Returns:
        The hook's handle; its `remove` ends the dropout.

    Example:
        >>> embedding = nn.Embedding(10, 3)
        >>> _ = drop_words(embedding, 0.1)
    """
    # What knows no `tied_table` is a table itself; the family is a part above this one.
    table = getattr(embedding, "tied_table", lambda: embedding)()
    return table.register_forward_hook(WordDropout(p), with_kwargs=True)


class WeightDropLSTM(nn.LSTM):
    r"""One batch-first LSTM layer with DropConnect on its hidden-to-hidden matrix.

    .. math:: W_{hh}' = W_{hh} \odot \frac{M}{1 - p}, \qquad M_{ij} \sim \mathrm{Bernoulli}(1 - p)

    One mask is drawn per call, so it is shared by all time steps and sequences. Parameters,
    initialization and ``state_dict`` are those of :class:`torch.nn.LSTM`, which this layer equals
    in evaluation mode and at ``weight_dropout=0``.

    Reference:
        | Merity et al. 2018, Section 2 (weight-dropped LSTM), after Wan et al. 2013.

    Args:
        input_size: Features of the input.
        hidden_size: Features of the output.
        weight_dropout: Probability that a hidden-to-hidden weight is dropped, in [0, 1).
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If `weight_dropout` is not in [0, 1).

    Shape:
        - x: (batch, time, input_size); state: two tensors (1, batch, hidden_size), zeros if None.
        - y: (batch, time, hidden_size) and the state after the last time step.

    Example:
        >>> WeightDropLSTM(400, 1150, weight_dropout=0.5)
        WeightDropLSTM(400, 1150, batch_first=True, weight_dropout=0.5)
    """

    weight_hh_l0: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        weight_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _check_probability(weight_dropout=weight_dropout)
        super().__init__(input_size, hidden_size, batch_first=True, device=device, dtype=dtype)
        self.weight_dropout = weight_dropout

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # no packed sequences
        self, x: Float[Tensor, "batch time inputs"], state: LSTMState | None = None
    ) -> tuple[Float[Tensor, "batch time hidden"], LSTMState]:
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # oneDNN's bfloat16 LSTM is slow, and fails on processors without such instructions.
            dtype, low = self.weight_hh_l0.dtype, torch.get_autocast_dtype("cpu")
            x = x.to(dtype)
            if state is not None:
                state = (state[0].to(dtype), state[1].to(dtype))
            with torch.autocast("cpu", enabled=False):
                if (dtype, low) == (torch.float32, torch.bfloat16) and mixed_lstm_pays(
                    x.shape[0], self.input_size, self.hidden_size
                ):
                    return self._mixed(x, state)
                return self.forward(x, state)
        if not self.training or self.weight_dropout == 0:
            y, (h, c) = super().forward(x, state)
            # Without oneDNN torch 2.11 exports states with one dimension more.
            return y, (h.reshape(1, *h.shape[-2:]), c.reshape(1, *c.shape[-2:]))
        if state is None:
            zeros = x.new_zeros(1, x.shape[0], self.hidden_size)
            state = (zeros, zeros)
        self.check_forward_args(x, state, None)
        # The function below nn.LSTM, called with the dropped matrix in place of the parameter: the
        # module is never altered, so it copies, pickles and keeps its keys. (functional_call on a
        # subclass would call this forward again.)
        weights = [
            self.weight_ih_l0,
            F.dropout(self.weight_hh_l0, self.weight_dropout),
            self.bias_ih_l0,
            self.bias_hh_l0,
        ]
        if x.is_cuda:  # cuDNN wants them side by side, and would copy them with a warning
            flat = torch.cat([weight.flatten() for weight in weights])
            parts = flat.split([weight.numel() for weight in weights])
            weights = [part.view_as(w) for part, w in zip(parts, weights, strict=True)]
        y, h, c = torch.lstm(
            x,
            state,
            weights,
            has_biases=True,
            num_layers=1,
            dropout=0.0,
            train=True,
            bidirectional=False,
            batch_first=True,
        )
        return y, (h, c)

    def _mixed(self, x: Tensor, state: LSTMState | None) -> tuple[Tensor, LSTMState]:
        """With products in bfloat16."""
        weight = self.weight_hh_l0
        if state is None:
            zeros = weight.new_zeros(1, x.shape[0], self.hidden_size)
            state = (zeros, zeros)
        self.check_forward_args(x, state, None)
        if self.training and self.weight_dropout > 0:
            # As `F.dropout`, whose draws take four times as long on a CPU.
            kept = torch.rand_like(weight).ge_(self.weight_dropout)
            weight = weight * kept.div_(1 - self.weight_dropout)
        weight_ih, bias_ih, bias_hh = cast(
            list[Tensor], [self.weight_ih_l0, self.bias_ih_l0, self.bias_hh_l0]
        )
        h, c = (part.squeeze(0) for part in state)
        y, c = mixed_lstm(x.transpose(0, 1), h, c, weight_ih, weight, bias_ih + bias_hh)
        return y.transpose(0, 1), (y[-1:].clone(), c[None])  # a copy, not to keep all of y

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight_dropout={self.weight_dropout}"


def activation_regularization(
    output: Float[Tensor, "*batch time features"], alpha: float
) -> Float[Tensor, ""]:
    r"""Activation regularization (AR): alpha times the mean square of the outputs.

    The published code takes the last layer's output *after* dropout.

    Reference:
        | Merity et al. 2018, Section 4.6; the mean, rather than a norm, is the published code's.

    Example:
        >>> activation_regularization(torch.tensor([[[1.0], [3.0]]]), alpha=2.0)
        tensor(10.)
    """
    return alpha * output.pow(2).mean()


def temporal_activation_regularization(
    output: Float[Tensor, "*batch time features"], beta: float
) -> Float[Tensor, ""]:
    r"""Temporal activation regularization (TAR): beta times the mean square of the steps in time.

    The published code takes the last layer's output *before* dropout. One time step costs 0.

    Reference:
        | Merity et al. 2018, Section 4.6; the mean, rather than a norm, is the published code's.

    Example:
        >>> temporal_activation_regularization(torch.tensor([[[1.0], [3.0]]]), beta=2.0)
        tensor(8.)
    """
    if output.shape[-2] < 2:
        return output.new_zeros(())
    return beta * output.diff(dim=-2).pow(2).mean()
