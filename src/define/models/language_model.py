"""A language model from its three parts: embedding, backbone (context model), output layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding import unit_parameters
from define.embedding.shared import written_by_nobody
from define.models.backbone import State
from define.softmax import OutputLayer

__all__ = ["LanguageModel", "ParameterCounts", "check_tied"]


@dataclass(frozen=True)
class ParameterCounts:
    """Numbers of parameters, split as in the paper's tables."""

    unit: int
    context: int
    input_output: int

    @property
    def total(self) -> int:
        return self.unit + self.context + self.input_output


def check_tied(head: nn.Module, *embeddings: nn.Module) -> None:
    """Raises a `ValueError` if an output layer is tied to what is not part of the embeddings."""
    tied = getattr(head, "tied", None)
    parts = (module for embedding in embeddings for module in embedding.modules())
    if tied is not None and all(tied.module is not part for part in parts):
        raise ValueError(
            f"head is tied to a module ({type(tied.module).__name__}) that is not part of "
            "embedding: its table would be neither trained nor saved."
        )


class LanguageModel(nn.Module):
    """Predicts each next token from those before.

    Args:
        embedding: Token embedding: `torch.nn.Embedding` or any of this package.
        backbone: Context model ``(x, state) -> (y, state)``, batch first.
        head: Output layer ``(hidden, targets) -> nll``.

    Raises:
        ValueError: If the widths or vocabularies of the parts do not fit, or the output layer is
            tied to another embedding.

    Example:
        >>> from define import DeFINE, LSTM, TiedSoftmax
        >>> embedding = DeFINE(10_000, 400, map=128)
        >>> backbone = LSTM(400, 600, 2, output_size=400)
        >>> model = LanguageModel(embedding, backbone, TiedSoftmax(embedding.map, 400))
        >>> tokens, targets = torch.randint(10_000, (2, 20, 35))
        >>> loss, state = model(tokens, targets)  # (batch, time) negative log-likelihoods
        >>> loss.shape
        torch.Size([20, 35])
    """

    def __init__(self, embedding: nn.Module, backbone: nn.Module, head: OutputLayer) -> None:
        super().__init__()
        for ours, theirs in (
            ("embedding.embedding_dim", "backbone.input_size"),
            ("backbone.output_size", "head.in_features"),
            ("embedding.num_embeddings", "head.num_classes"),
        ):
            parts = {"embedding": embedding, "backbone": backbone, "head": head}
            a, b = (getattr(parts[p], name) for p, name in (x.split(".") for x in (ours, theirs)))
            if a != b:
                raise ValueError(f"{ours}={a} must equal {theirs}={b}.")
        check_tied(head, embedding)
        self.embedding = embedding
        self.backbone = backbone
        self.head = head

    def hidden(
        self, tokens: Int[Tensor, "batch time"], state: State = None
    ) -> tuple[Float[Tensor, "batch time features"], State]:
        """Hidden states that the output layer reads, and the state after the last token."""
        return self.backbone(self.embedding(tokens), state)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        targets: Int[Tensor, "batch time"],
        state: State = None,
    ) -> tuple[Float[Tensor, "batch time"], State]:
        """Negative log-likelihood in nats of each target, and the state to go on from."""
        hidden, state = self.hidden(tokens, state)
        return self.head(hidden, targets), state

    @torch.no_grad()
    def generate(
        self,
        tokens: Int[Tensor, "batch time"],
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        banned: Sequence[int] = (),
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "batch new"]:
        """Continues each row of `tokens`; call it in evaluation mode.

        Args:
            tokens: (batch, time) prompt of at least one token.
            max_new_tokens: Number of tokens to add.
            temperature: Divides the log-probabilities; 0 takes the likeliest token.
            top_k: Samples from the likeliest k tokens only.
            banned: Ids that are never taken.
            generator: Source of random numbers, for reproducible samples.

        Returns:
            (batch, max_new_tokens) ids.
        """
        if tokens.shape[-1] < 1:
            raise ValueError(f"tokens {tuple(tokens.shape)} must hold at least one token a row.")
        if not (max_new_tokens >= 0 and temperature >= 0):
            raise ValueError(f"{max_new_tokens=} and {temperature=} must be at least 0.")
        if not all(0 <= id_ < self.head.num_classes for id_ in banned):
            raise ValueError(f"{banned=} must be ids within {self.head.num_classes}.")
        allowed = self.head.num_classes - len(set(banned))
        if banned and not 1 <= (1 if top_k is None else top_k) <= allowed:
            raise ValueError(f"{top_k=} must be at most the {allowed} ids that are not banned.")
        new, state = [], None
        with written_by_nobody():  # to look at a large table takes as long as to read it all
            for _ in range(max_new_tokens):
                hidden, state = self.hidden(tokens, state)
                tokens = self._sample(hidden[:, -1], temperature, top_k, list(banned), generator)
                new.append(tokens)
        return torch.cat(new, -1) if new else tokens[:, :0]

    def _sample(
        self,
        hidden: Tensor,
        temperature: float,
        top_k: int | None,
        banned: list[int],
        generator: torch.Generator | None,
    ) -> Tensor:
        if temperature == 0 and not banned:
            return self.head.predict(hidden)[:, None]
        if banned or top_k is None:
            values, ids = self.head.log_prob(hidden), None
            values[:, banned] = -torch.inf
            if temperature == 0 or top_k is not None:
                values, ids = values.topk(top_k if temperature and top_k else 1)
        else:
            values, ids = self.head.topk(hidden, top_k)
        # From the largest on: nothing overflows, however low the temperature.
        values = values - values.amax(-1, keepdim=True)
        p = (values / max(temperature, torch.finfo(values.dtype).tiny)).softmax(-1)
        place = torch.multinomial(p, 1, generator=generator)
        return place if ids is None else ids.gather(-1, place)

    def parameter_counts(self) -> ParameterCounts:
        """Parameters of the embedding's unit, of the context model, and of input and output."""
        unit = sum(p.numel() for p in unit_parameters(self))
        context = sum(p.numel() for p in self.backbone.parameters())
        total = sum(p.numel() for p in self.parameters())
        return ParameterCounts(unit, context, total - unit - context)
