"""Transformer-XL: a Transformer that reads on from a memory, with relative positions."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from define.embedding.tables import check_sizes
from define.models.backbone import Backbone

__all__ = ["TransformerXL"]


def _sinusoids(
    distances: Float[Tensor, " distances"], width: int
) -> Float[Tensor, "distances width"]:
    """The encoding R of Dai et al. 2019: all sines first, then all cosines."""
    exponents = torch.arange(0, width, 2, device=distances.device, dtype=distances.dtype) / width
    angles = torch.outer(distances, 10_000.0**-exponents)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)[:, :width]


def _relative_shift(
    scores: Float[Tensor, "*batch time distances"],
) -> Float[Tensor, "*batch time keys"]:
    """From scores by distance S, S - 1, ..., 0 to scores by key 0, ..., S - 1 (App. B).

    Query i of T stands at S - T + i, so its key j is S - T + i - j away: in row-major order that is
    element T + i S + j of the T x (S + 1) scores, one slice for all. Keys of the future read
    the next row's numbers; they must be masked.
    """
    time, distances = scores.shape[-2:]
    return scores.flatten(-2)[..., time:].unflatten(-1, (time, distances - 1))


class _RelativeAttention(nn.Module):
    """Attention of x to a memory and itself, with the four terms of Section 3.3."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        head_dim: int,
        dropout: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.dropout = num_heads, head_dim, dropout
        width = num_heads * head_dim
        linear = partial(nn.Linear, bias=False, device=device, dtype=dtype)
        # Queries apart from keys and values: nothing asks on behalf of the memory.
        self.query = linear(embedding_dim, width)
        self.key_value = linear(embedding_dim, 2 * width)
        self.position = linear(embedding_dim, width)
        self.output = linear(width, embedding_dim)

    def forward(
        self,
        x: Float[Tensor, "batch time features"],
        memory: Float[Tensor, "batch memory features"],
        encoding: Float[Tensor, "distances features"],
        mask: Float[Tensor, "time keys"],
        content_bias: Float[Tensor, "heads head_dim"],
        position_bias: Float[Tensor, "heads head_dim"],
    ) -> Float[Tensor, "batch time features"]:
        heads = (self.num_heads, self.head_dim)
        scale = self.head_dim**-0.5
        query = self.query(x).unflatten(-1, heads)  # (B, T, H, D)
        # Apart, not as one context: a memory asks no gradient, which is a product less.
        key_value = torch.cat((self.key_value(memory), self.key_value(x)), dim=1)
        key, value = key_value.unflatten(-1, (2, *heads)).unbind(2)  # (B, S, H, D)
        position = self.position(encoding).unflatten(-1, heads)  # (S + 1, H, D)

        # Terms (b) and (d). The scale goes into the query: SDPA does not scale its mask.
        position_query = (query + position_bias.to(query.dtype)) * scale
        scores = torch.einsum("bthd,shd->bhts", position_query, position)  # (B, H, T, S + 1)
        bias = _relative_shift(scores) + mask.to(scores.dtype)  # (B, H, T, S)

        # Terms (a) and (c).
        query = query + content_bias.to(query.dtype)
        query, key, value = (t.transpose(1, 2) for t in (query, key, value))  # (B, H, T or S, D)
        if query.is_cuda and self.head_dim % 8:
            # CUDA's fused kernel with a bias wants heads of a multiple of 8; zeros change nothing.
            padding = (0, -self.head_dim % 8)
            query, key, value = (F.pad(t, padding) for t in (query, key, value))
        attended = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias,
            dropout_p=self.dropout if self.training else 0.0,
            scale=scale,
        )
        # (B, H, T, D) -> (B, T, H D)
        return self.output(attended[..., : self.head_dim].transpose(1, 2).flatten(-2))


class _Layer(nn.Module):
    """Attention and feed-forward, each with dropout, a residual path and a LayerNorm."""

    def __init__(
        self, attention: _RelativeAttention, inner_dim: int, dropout: float, pre_norm: bool
    ) -> None:
        super().__init__()
        embedding_dim = attention.output.out_features
        weight = attention.output.weight
        like = {"device": weight.device, "dtype": weight.dtype}
        self.attention = attention
        self.attention_norm = nn.LayerNorm(embedding_dim, **like)
        self.feedforward = nn.Sequential(
            nn.Linear(embedding_dim, inner_dim, **like),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(inner_dim, embedding_dim, **like),
        )
        self.feedforward_norm = nn.LayerNorm(embedding_dim, **like)
        self.dropout = nn.Dropout(dropout)
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, memory: Tensor, *shared: Tensor) -> Tensor:
        if self.pre_norm:
            normed = (self.attention_norm(x), self.attention_norm(memory))
            x = x + self.dropout(self.attention(*normed, *shared))
            return x + self.dropout(self.feedforward(self.feedforward_norm(x)))
        x = self.attention_norm(x + self.dropout(self.attention(x, memory, *shared)))
        return self.feedforward_norm(x + self.dropout(self.feedforward(x)))


class TransformerXL(Backbone):
    r"""Transformer-XL without its embedding and output layers: features in, features out.

    A segment attends to itself and to a memory of what each layer read before, by content and by
    relative position:

    .. math::
        A_{ij} = \frac{(q_i + u)^\top k_j + (q_i + v)^\top W_R R_{i-j}}{\sqrt{D}}

    with the sinusoids R, one projection :math:`W_R` per layer and two biases u and v shared by all
    layers. The memory is an argument and a result, carries no gradient, and may have any length.

    Reference:
        | Dai et al., "Transformer-XL: Attentive Language Models Beyond a Fixed-Length Context",
        | ACL 2019, Sections 3.2 (memory) and 3.3 (relative positions), Appendix B (the shift).
        | https://arxiv.org/abs/1901.02860

    Args:
        embedding_dim: Width m of input and output.
        depth: Number of layers.
        num_heads: Number of attention heads H.
        head_dim: Width D of a head; H D need not be m.
        inner_dim: Width of the hidden layer of the feed-forward part. 5 m if None, as in the
            DeFINE paper (384 to 1920).
        memory_length: Positions kept for the next segment. An attribute that may be changed.
        dropout: Of input, output, positions, feed-forward layers and attention's output.
        attention_dropout: Of the attention weights.
        pre_norm: Whether LayerNorm comes before attention and feed-forward instead of after the
            sum, as published. There is a last LayerNorm before the output then.
        input_scale: What the input is multiplied by. The published code has the square root of m,
            because its embeddings are tied to the output, where they must be small.
        evaluation_memory_length: `memory_length` in evaluation mode; the same if None. An attribute
            that may be changed.
        same_length: Whether in evaluation mode each query sees as many positions as the memory is
            long, itself among them (as published), however long the segment, instead of all there
            are: results then do not depend on how a text is cut. An attribute that may be changed.
        clamp_length: Distances beyond it are taken for it, so that a model evaluated with a longer
            memory meets no distance unseen in training. An attribute that may be changed.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If a size is out of range, or an input does not have the sizes given here.

    Shape:
        - x and y: (batch, time, m).
        - state: (depth, batch, memory, m), the input of each layer; empty memory if None.

    Example:
        >>> model = TransformerXL(8, depth=2, num_heads=2, head_dim=4, memory_length=5)
        >>> model
        TransformerXL(
          8, depth=2, memory_length=5, evaluation_memory_length=None, same_length=False, ...
          ...
        >>> y, state = model(torch.randn(3, 7, 8))
        >>> y, state = model(torch.randn(3, 7, 8), state)
        >>> y.shape, state.shape
        (torch.Size([3, 7, 8]), torch.Size([2, 3, 5, 8]))
    """

    def __init__(
        self,
        embedding_dim: int,
        depth: int,
        *,
        num_heads: int = 10,
        head_dim: int = 41,
        inner_dim: int | None = None,
        memory_length: int = 150,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        pre_norm: bool = False,
        input_scale: float = 1.0,
        evaluation_memory_length: int | None = None,
        same_length: bool = False,
        clamp_length: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        embedding_dim, depth, num_heads, head_dim = check_sizes(
            embedding_dim=embedding_dim, depth=depth, num_heads=num_heads, head_dim=head_dim
        )
        if inner_dim is None:
            inner_dim = 5 * embedding_dim
        [inner_dim] = check_sizes(inner_dim=inner_dim)
        super().__init__(embedding_dim, embedding_dim)
        if memory_length < 0:
            raise ValueError(f"{memory_length=} must not be negative.")
        if evaluation_memory_length is not None and evaluation_memory_length < 0:
            raise ValueError(f"{evaluation_memory_length=} must not be negative.")
        if clamp_length is not None and clamp_length < 0:
            raise ValueError(f"{clamp_length=} must not be negative.")
        if not (0 <= dropout < 1 and 0 <= attention_dropout < 1):
            raise ValueError(f"{dropout=} and {attention_dropout=} must be in [0, 1).")
        self.depth = depth
        self.input_scale = input_scale
        self.memory_length = memory_length
        self.evaluation_memory_length = evaluation_memory_length
        self.same_length = same_length
        self.clamp_length = clamp_length

        like = {"device": device, "dtype": dtype}
        self.content_bias = nn.Parameter(torch.empty(num_heads, head_dim, **like))  # u, "r_w_bias"
        self.position_bias = nn.Parameter(torch.empty(num_heads, head_dim, **like))  # v, "r_r_bias"
        self.layers = nn.ModuleList(
            _Layer(
                _RelativeAttention(embedding_dim, num_heads, head_dim, attention_dropout, **like),
                inner_dim,
                dropout,
                pre_norm,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embedding_dim, **like) if pre_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weights, u and v from N(0, 0.02²), those of LayerNorm from N(1, 0.02²); biases 0.

        This is the published code's initialization.
        """
        for bias in (self.content_bias, self.position_bias):
            nn.init.normal_(bias, 0.0, 0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                nn.init.normal_(module.weight, float(isinstance(module, nn.LayerNorm)), 0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def segment(
        self,
        x: Float[Tensor, "batch time features"],
        state: Float[Tensor, "depth _batch memory _features"] | None,
    ) -> tuple[Float[Tensor, "batch time features"], Float[Tensor, "depth batch kept features"]]:
        batch, time, width = x.shape
        if state is None:
            state = x.new_empty(self.depth, batch, 0, width)
        expected = (self.depth, batch, state.shape[2], width)
        if state.shape != expected:
            raise ValueError(f"state of shape {tuple(state.shape)} must have shape {expected}.")

        keys = state.shape[2] + time
        kept = torch.sym_max(keys - self._reach(), 0)
        encoding = self.dropout(self._encoding(keys, x))
        mask = self._mask(time, keys, x)
        x = self.dropout(x * self.input_scale)
        read = []
        for layer, memory in zip(self.layers, state, strict=True):
            read.append(torch.cat((memory, x.detach()), dim=1)[:, kept:])
            x = layer(x, memory, encoding, mask, self.content_bias, self.position_bias)
        return self.dropout(self.norm(x)), torch.stack(read)

    def _reach(self) -> int:
        """Length of the memory in the present mode."""
        if self.training or self.evaluation_memory_length is None:
            return self.memory_length
        return self.evaluation_memory_length

    def _encoding(self, keys: int, like: Tensor) -> Float[Tensor, "distances features"]:
        """Sinusoids of the distances S, ..., 0: one more than there are, for `_relative_shift`."""
        # In bfloat16, distances above 256 would be rounded.
        dtype = torch.promote_types(like.dtype, torch.float32)
        distances = torch.arange(keys, -1, -1, device=like.device, dtype=dtype)
        if self.clamp_length is not None:
            distances = distances.clamp(max=self.clamp_length)
        return _sinusoids(distances, self.input_size).to(like.dtype)

    def _mask(self, time: int, keys: int, like: Tensor) -> Float[Tensor, "time keys"]:
        """0 where a query may look, minus infinity elsewhere."""
        positions = torch.arange(keys, device=like.device)
        distance = positions[keys - time :, None] - positions  # (T, S)
        hidden = distance < 0
        if self.same_length and not self.training:
            hidden = hidden | (distance >= max(self._reach(), 1))
        return like.new_zeros(time, keys).masked_fill(hidden, -torch.inf)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, depth={self.depth}, memory_length={self.memory_length}, "
            f"evaluation_memory_length={self.evaluation_memory_length}, "
            f"same_length={self.same_length}, clamp_length={self.clamp_length}"
        )
