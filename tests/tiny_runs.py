"""A vocabulary, models and text too small to train."""

import torch

from define import LSTM, LanguageModel, TiedSoftmax

V, WIDTH = 300, 24
WORDS = tuple(
    f"{'<script>' if i == 7 else '$x_' if i == 9 else 'word'}{chr(97 + i % 26)}{chr(97 + i // 26)}"
    for i in range(V)
)
COUNTS = torch.tensor([3000 // (i + 1) for i in range(V)])


def language_model(embedding):
    map = getattr(embedding, "map", embedding)
    return LanguageModel(embedding, LSTM(WIDTH, 16, 1), TiedSoftmax(map, 16))


def batches():
    generator = torch.Generator().manual_seed(3)
    chances = COUNTS.double() + 0.5
    for _ in range(3):
        ids = torch.multinomial(chances, 4 * 21, replacement=True, generator=generator).view(4, 21)
        yield ids[:, :-1], ids[:, 1:]
