"""The Transformer of Vaswani et al. with any embedding, around Marian's encoder and decoder."""

from math import isclose
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import MarianConfig, MarianMTModel
from transformers.models.marian.modeling_marian import MarianDecoder, MarianEncoder

from define.embedding import unit_parameters
from define.models import ParameterCounts
from define.models.language_model import check_tied
from define.softmax import Softmax, TiedSoftmax
from define.softmax.chunked import IGNORED

__all__ = ["TranslationModel"]

_PADDING, _END = 0, 1


class TranslationModel(nn.Module):
    r"""Translates: embedding, encoder and decoder, output layer.

    Layers are normalized after each residual sum, positions are sinusoids, and embeddings are
    multiplied with `scale` before positions are added, as published. Weight matrices are drawn by
    Xavier's uniform rule. Ids 0 and 1 are padding, which also starts each translation, and the end
    of a sentence.

    Reference:
        | Attention Is All You Need (Vaswani et al. 2017), Sec. 3
        | DeFINE, Sec. 4.2 (the same with DeFINE in both input tables)

    Args:
        embedding: Token embedding of the encoder and, unless another is given, of the decoder:
            `torch.nn.Embedding` or any of this package.
        head: Output layer, such as `TiedSoftmax` on the decoder's table: three-way tying.
        target_embedding: Token embedding of the decoder; `embedding` if omitted.
        scale: Factor on embeddings; the square root of their width if omitted.
        num_layers: Layers of the encoder, and of the decoder.
        num_heads: Heads of each attention.
        inner_dim: Width within the feed-forward layers.
        dropout: Dropout probability of embeddings and of each layer's output.
        max_length: The most places of a sentence, its end counted.

    Raises:
        ValueError: If the widths or vocabularies of the parts do not fit, or the output layer is
            tied to another embedding.

    Example:
        >>> from define import DeFINE
        >>> embedding = DeFINE(8000, 64, map=32, expand_dim=128)
        >>> head = TiedSoftmax(embedding.map, in_features=64)
        >>> model = TranslationModel(embedding, head, num_layers=2, num_heads=4, inner_dim=128)
        >>> source, targets = torch.randint(2, 8000, (2, 5, 9))
        >>> model(source, targets).shape  # negative log-likelihoods
        torch.Size([5, 9])
    """

    def __init__(
        self,
        embedding: nn.Module,
        head: Softmax | TiedSoftmax,
        *,
        target_embedding: nn.Module | None = None,
        scale: float | None = None,
        num_layers: int = 6,
        num_heads: int = 8,
        inner_dim: int = 2048,
        dropout: float = 0.1,
        max_length: int = 256,
    ) -> None:
        super().__init__()
        target = embedding if target_embedding is None else target_embedding
        width, size = cast(int, embedding.embedding_dim), cast(int, target.num_embeddings)
        for name, found, wanted in (
            ("target_embedding.embedding_dim", target.embedding_dim, width),
            ("head.in_features", head.in_features, width),
            ("head.num_classes", head.num_classes, size),
        ):
            if found != wanted:
                raise ValueError(f"{name}={found} must be {wanted}, as in the embeddings.")
        check_tied(head, embedding, target)
        if width % num_heads:
            raise ValueError(f"{num_heads=} must divide embedding.embedding_dim={width}.")
        self.config = MarianConfig(
            vocab_size=2,  # padding and end; the tables are the embeddings'
            d_model=width,
            encoder_layers=num_layers,
            decoder_layers=num_layers,
            encoder_attention_heads=num_heads,
            decoder_attention_heads=num_heads,
            encoder_ffn_dim=inner_dim,
            decoder_ffn_dim=inner_dim,
            activation_function="relu",
            dropout=dropout,
            max_position_embeddings=max_length,
            share_encoder_decoder_embeddings=False,
            tie_word_embeddings=False,
            forced_eos_token_id=None,
            pad_token_id=_PADDING,
            eos_token_id=_END,
            decoder_start_token_id=_PADDING,
        )
        self.scale = width**0.5 if scale is None else scale
        self.embedding = embedding
        self.target_embedding = target_embedding  # None: one owner per parameter
        self.encoder = MarianEncoder(self.config)
        self.decoder = MarianDecoder(self.config)
        for part in (self.encoder, self.decoder):
            del part.embed_tokens
            for parameter in part.layers.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        self.head = head

    @property
    def decoder_embedding(self) -> nn.Module:
        """The embedding that the decoder reads."""
        return self.embedding if self.target_embedding is None else self.target_embedding

    def hidden(
        self, source: Int[Tensor, "batch source"], targets: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target features"]:
        """Hidden states that the output layer reads, each knowing the targets before its own.

        Args:
            source: Ids of the sentences to translate; 0 fills up.
            targets: Ids of their translations; 0 or -100 fills up.

        Raises:
            ValueError: If a side has more places than `max_length`.
        """
        longest, places = self.config.max_position_embeddings, (source.shape[1], targets.shape[1])
        if max(places) > longest:
            raise ValueError(f"{max(places)} places of a sentence must be at most {longest=}.")
        mask = (source != _PADDING).long()
        encoded = self.encoder(
            inputs_embeds=self.embedding(source) * self.scale, attention_mask=mask
        )
        before = targets.masked_fill(targets == IGNORED, _PADDING)[:, :-1]
        before = nn.functional.pad(before, (1, 0), value=_PADDING)  # which starts a sentence
        decoded = self.decoder(
            inputs_embeds=self.decoder_embedding(before) * self.scale,
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=mask,
            use_cache=False,
        )
        return decoded.last_hidden_state

    def forward(
        self, source: Int[Tensor, "batch source"], targets: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target"]:
        """Negative log-likelihood in nats of each target; 0 where it is -100."""
        return self.head(self.hidden(source, targets), targets)

    @torch.no_grad()
    def to_marian(self) -> MarianMTModel:
        """The model as a plain `MarianMTModel`: its tables folded, to generate from or to save.

        The layers are the same modules, not copies. Input and output have one table where they are
        equal and the scale is the published one; else three of V×m.
        """
        tables = [cast(Tensor, e.weight) for e in (self.embedding, self.decoder_embedding)]
        head, output = self.head, self.head.table
        if isinstance(head.projection, nn.Linear):
            output = output @ head.projection.weight
        one = self.target_embedding is None and torch.equal(output, tables[0])
        one = one and isclose(self.scale, self.config.d_model**0.5)
        config = MarianConfig.from_dict(
            {
                **self.config.to_dict(),
                "vocab_size": len(tables[0]),
                "decoder_vocab_size": len(tables[1]),
                "share_encoder_decoder_embeddings": one,
                "tie_word_embeddings": one,
                "scale_embedding": one,
            }
        )
        with torch.device("meta"):
            marian = MarianMTModel(config)
        marian.lm_head.weight = nn.Parameter(output)
        if one:
            marian.model.shared.weight = marian.lm_head.weight
        for part, ours, table in zip(
            (marian.model.encoder, marian.model.decoder),
            (self.encoder, self.decoder),
            tables,
            strict=True,
        ):
            part.layers, part.embed_positions = ours.layers, ours.embed_positions
            weight = marian.lm_head.weight if one else nn.Parameter(table * self.scale)
            part.embed_tokens.weight = weight
        bias = output.new_zeros(len(output)) if head.bias is None else head.bias.detach()
        marian.final_logits_bias = nn.Buffer(bias[None].clone())
        return marian

    def parameter_counts(self) -> ParameterCounts:
        """Parameters of embeddings' units, of encoder and decoder, and of the tables."""
        unit = sum(p.numel() for p in unit_parameters(self))
        parts = nn.ModuleList([self.encoder, self.decoder])
        context = sum(p.numel() for p in parts.parameters() if p.requires_grad)  # no sinusoids
        total = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return ParameterCounts(unit, context, total - unit - context)
