"""A report that several tests look at."""

from functools import partial

import pytest
import torch
from tiny_runs import COUNTS, WIDTH, WORDS, V, batches, language_model
from torch import nn

from define import DeFINE, ProjectedEmbedding
from define.measures import RunSummary, Subject, Translation, some_words, token_nll

# Words of many scripts, and words that HTML and Markdown take for marks of their own.
ODD = "你好世界 日本語の単語 한국어 слово שלום مرحبا <unk> <script>alert(1)</script> a|b *b* `c`"


@pytest.fixture(scope="session")
def words():
    found = list(WORDS)
    for i, word in enumerate(ODD.split()):
        found[3 * i] = word
    return tuple(found)


@pytest.fixture(scope="session")
def subjects(words):
    """A standard, a projected and a DeFINE embedding that were never trained, as of translation."""
    torch.manual_seed(0)
    embeddings = {
        "a-standard-embedding-with-a-very-long-name-of-many-words": nn.Embedding(V, WIDTH),
        "projected": ProjectedEmbedding(V, WIDTH, map=8),
        "_$DeFINE_": DeFINE(V, WIDTH, map=8, expand_dim=32, depth=3, max_groups=4),
        "機械翻訳-実験-1": nn.Embedding(V, WIDTH),
    }
    with torch.no_grad():
        embeddings["projected"].projection.weight[0, 3] = 0.0  # dimension 3 is constant
    found = []
    for i, (name, embedding) in enumerate(embeddings.items()):
        summary = RunSummary(
            name=name,
            embedding=type(embedding).__name__,
            unit=40_000 * i,
            context=100_000,
            input_output=90_000 + i,
            tokens_per_second=1234.5,
            valid_perplexity=130.0 + i,
            test_perplexity=None if i == 1 else 120.0 + i,
            seed=i,
            tokens=1000,
            history=((500, 200.0 + i), (1000, 130.0 + i)),
            valid_bleu=30.0,
            test_bleu=31.0 + i,
        )
        lines = [Translation(f"Satz {n}", f"sentence {n}", f"<unk> {n} {i}") for n in range(30)]
        found.append(
            Subject(
                name,
                summary.embedding,
                embedding,
                words,
                f"# recipe: text\nname: <b>{name}</b>\nlong: {'x' * 300}\n",
                COUNTS,
                summary,
                partial(token_nll, language_model(embedding), tuple(batches())),
                lines,
            )
        )
    return found


@pytest.fixture(scope="session")
def report(subjects, words, tmp_path_factory):
    """The page of a report on them."""
    from define.report import write_report  # here: needs the extra

    return write_report(
        subjects,
        tmp_path_factory.mktemp("report"),
        chosen=[21, 24, 27, *some_words(words, COUNTS, 3)],
        tables={"other": torch.randn(V, 10, generator=torch.Generator().manual_seed(1))},
        command="define analyze <a>",
    )
