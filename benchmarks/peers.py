"""What the package is compared with: the methods of the papers in plain modules of torch.

Written from the papers alone, the way one writes them first: per token, whole logits, one thing
after the other. They compute the same functions as the models of the package, without its care.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from define import DeFINE

__all__ = ["PlainAWDLSTM", "PlainAdaptive", "PlainDeFINE", "PlainTransformerXL"]


class PlainDeFINE(nn.Module):
    """DeFINE per token: view, batched product, transpose, at every layer.

    Args:
        like: The embedding whose sizes and parameters it takes.
    """

    def __init__(self, like: DeFINE) -> None:
        super().__init__()
        self.map, self.expand, self.reduce = like.map, like.expand, like.reduce
        self._layers: Any = (self.expand.linears, self.expand.endings)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (batch, time, m)."""
        x = self.map(ids)
        y = x
        for layer, ending in zip(*self._layers, strict=True):
            groups = layer.groups
            if y is not x:
                y, again = (t.view(*ids.shape, groups, -1) for t in (y, x))
                y = torch.cat([y, again], -1)
            else:
                y = y.view(*ids.shape, groups, -1)
            y = y.flatten(0, 1).transpose(0, 1)
            y = torch.bmm(y, layer.weight.transpose(1, 2)).transpose(0, 1)
            y = y.contiguous().view(*ids.shape, -1) + layer.bias
            y = ending(y)
        assert self.reduce is not None
        return F.linear(torch.cat([y, x], -1), self.reduce.weight[0], self.reduce.bias)


class PlainAWDLSTM(nn.Module):
    """AWD-LSTM (Merity et al. 2018): three LSTMs, five kinds of dropout, a tied output.

    Args:
        num_embeddings: Size of the vocabulary.
        embedding_dim: Width of the table, and of the last layer.
        hidden_size: Width of the other layers.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int = 400, hidden_size: int = 1150
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(num_embeddings, embedding_dim)
        nn.init.uniform_(self.table.weight, -0.1, 0.1)
        sizes = (embedding_dim, hidden_size, hidden_size, embedding_dim)
        self.lstms = nn.ModuleList(nn.LSTM(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.bias = nn.Parameter(torch.zeros(num_embeddings))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of (batch, time) tokens and their targets."""
        kept = F.dropout(torch.ones(len(self.table.weight), 1), 0.1)
        x = F.embedding(tokens.t(), self.table.weight * kept)
        for i, lstm in enumerate(cast(Any, self.lstms)):
            x = _locked(x, 0.4 if i == 0 else 0.25)
            dropped = {"weight_hh_l0": F.dropout(lstm.weight_hh_l0, 0.5)}
            x, _ = torch.func.functional_call(lstm, dropped, (x,))
        x = _locked(x, 0.4)
        logits = F.linear(x.flatten(0, 1), self.table.weight, self.bias)
        return F.cross_entropy(logits, targets.t().flatten())


def _locked(x: Tensor, p: float) -> Tensor:
    return x * F.dropout(torch.ones(1, *x.shape[1:]), p)


class PlainAdaptive(nn.Module):
    """Tied adaptive input and softmax with tables of one width n (Dai et al. 2019).

    Args:
        num_embeddings: Size of the vocabulary.
        width: Width n of the tables.
        embedding_dim: Width of the model.
        cutoffs: First id of each further band.
    """

    def __init__(
        self, num_embeddings: int, width: int, embedding_dim: int, cutoffs: list[int]
    ) -> None:
        super().__init__()
        self.edges = [0, *cutoffs, num_embeddings]
        sizes = [stop - start for start, stop in zip(self.edges, self.edges[1:], strict=False)]
        self.tables = nn.ParameterList(torch.randn(size, width) * 0.02 for size in sizes)
        self.biases = nn.ParameterList(torch.zeros(size) for size in sizes)
        self.projections = nn.ParameterList(
            torch.randn(embedding_dim, width) * width**-0.5 for _ in sizes
        )
        self.clusters = nn.Parameter(torch.randn(len(cutoffs), width) * 0.02)
        self.cluster_bias = nn.Parameter(torch.zeros(len(cutoffs)))

    def embed(self, tokens: Tensor) -> Tensor:
        """Vectors of tokens, band by band through masks."""
        flat = tokens.flatten()
        out = torch.zeros(len(flat), len(self.projections[0]))
        for b, (table, projection) in enumerate(zip(self.tables, self.projections, strict=True)):
            inside = (flat >= self.edges[b]) & (flat < self.edges[b + 1])
            places = inside.nonzero().squeeze(1)
            if len(places):
                rows = F.embedding(flat[places] - self.edges[b], table)
                out = out.index_copy(0, places, F.linear(rows, projection))
        return out.view(*tokens.shape, -1) * len(self.projections[0]) ** 0.5

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean loss of hidden states (rows, m)."""
        weight = torch.cat([self.tables[0], self.clusters])
        bias = torch.cat([self.biases[0], self.cluster_bias])
        head = F.linear(hidden @ self.projections[0], weight, bias).log_softmax(1)
        losses = torch.zeros(len(targets))
        for b, (table, bias) in enumerate(zip(self.tables, self.biases, strict=True)):
            inside = (targets >= self.edges[b]) & (targets < self.edges[b + 1])
            places = inside.nonzero().squeeze(1)
            if len(places) == 0:
                continue
            inner = targets[places] - self.edges[b]
            found = head[places]
            if b == 0:
                picked = found.gather(1, inner[:, None]).squeeze(1)
            else:
                tail = F.linear(hidden[places] @ self.projections[b], table, bias).log_softmax(1)
                picked = found[:, len(self.tables[0]) + b - 1]
                picked = picked + tail.gather(1, inner[:, None]).squeeze(1)
            losses = losses.index_copy(0, places, -picked)
        return losses.mean()


class PlainTransformerXL(nn.Module):
    """Transformer-XL (Dai et al. 2019): relative attention over a segment and its memory.

    Args:
        embedding: Input and output.
        num_layers: Number of layers.
        embedding_dim: Width of the model.
        num_heads: Heads of each attention.
        head_dim: Width of a head.
        inner_dim: Width within the feed-forward layers.
    """

    def __init__(
        self,
        embedding: PlainAdaptive,
        num_layers: int,
        embedding_dim: int,
        num_heads: int,
        head_dim: int,
        inner_dim: int,
    ) -> None:
        super().__init__()
        self.embedding, self.dropout = embedding, nn.Dropout(0.1)
        self.heads, self.head_dim, width = num_heads, head_dim, num_heads * head_dim
        self.content = nn.Parameter(torch.zeros(num_heads, head_dim))
        self.place = nn.Parameter(torch.zeros(num_heads, head_dim))
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {
                    "qkv": nn.Linear(embedding_dim, 3 * width, bias=False),
                    "r": nn.Linear(embedding_dim, width, bias=False),
                    "o": nn.Linear(width, embedding_dim, bias=False),
                    "norm": nn.LayerNorm(embedding_dim),
                    "inner": nn.Sequential(
                        nn.Linear(embedding_dim, inner_dim),
                        nn.ReLU(),
                        nn.Dropout(0.1),
                        nn.Linear(inner_dim, embedding_dim),
                        nn.Dropout(0.1),
                    ),
                    "inner_norm": nn.LayerNorm(embedding_dim),
                }
            )
            for _ in range(num_layers)
        )
        frequencies = 10_000 ** (-torch.arange(0, embedding_dim, 2) / embedding_dim)
        self.frequencies = nn.Buffer(frequencies)

    def forward(
        self, tokens: Tensor, targets: Tensor, memory: list[Tensor] | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Mean loss of (batch, time) tokens, and the memory for the next ones."""
        x = self.dropout(self.embedding.embed(tokens.t()))  # (time, batch, m)
        time, batch, _ = x.shape
        past = 0 if memory is None else len(memory[0])
        keys = past + time
        places = torch.arange(keys - 1, -1, -1.0)[:, None] * self.frequencies
        r = self.dropout(torch.cat([places.sin(), places.cos()], -1))  # (keys, m)
        hidden = torch.ones(time, keys, dtype=torch.bool).triu(1 + past)[:, :, None, None]
        after = []
        for i, layer in enumerate(cast(Any, self.layers)):
            after.append(x.detach())
            seen = x if memory is None else torch.cat([memory[i], x])
            q, k, v = layer["qkv"](seen).chunk(3, -1)
            q = q[-time:].view(time, batch, self.heads, -1)
            k, v = (t.view(keys, batch, self.heads, -1) for t in (k, v))
            position = layer["r"](r).view(keys, self.heads, -1)
            by_content = torch.einsum("ibnd,jbnd->ijbn", q + self.content, k)
            by_place = _shift(torch.einsum("ibnd,jnd->ijbn", q + self.place, position))
            score = (by_content + by_place) * self.head_dim**-0.5
            p = score.masked_fill(hidden, -torch.inf).softmax(1)
            y = torch.einsum("ijbn,jbnd->ibnd", p, v).reshape(time, batch, -1)
            x = layer["norm"](x + self.dropout(layer["o"](y)))
            x = layer["inner_norm"](x + layer["inner"](x))
        loss = self.embedding.loss(self.dropout(x).flatten(0, 1), targets.t().flatten())
        return loss, after


def _shift(x: Tensor) -> Tensor:
    """Moves row i of (queries, keys, ...) such that column j is the distance of key j."""
    zeros = x.new_zeros(x.shape[0], 1, *x.shape[2:])
    padded = torch.cat([zeros, x], 1)
    return padded.view(x.shape[1] + 1, x.shape[0], *x.shape[2:])[1:].view_as(x)
