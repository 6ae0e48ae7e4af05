"""A report that several tests look at."""

import pytest
import torch
from tiny_runs import COUNTS, WIDTH, WORDS, V, batches, language_model
from torch import nn

from define import DeFINE, ProjectedEmbedding
from define.measures import RunSummary, similarity
from define.report import Subject, analyze, some_words, write_report


@pytest.fixture(scope="session")
def findings():
    """Of a standard, a projected and a DeFINE embedding that were never trained."""
    torch.manual_seed(0)
    embeddings = {
        "a-standard-embedding-with-a-long-name": nn.Embedding(V, WIDTH),
        "projected": ProjectedEmbedding(V, WIDTH, map=8),
        "_$DeFINE_": DeFINE(V, WIDTH, map=8, expand_dim=32, depth=3, max_groups=4),
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
        )
        found.append(
            analyze(
                Subject(
                    name,
                    summary.embedding,
                    embedding,
                    WORDS,
                    f"# recipe: text\nname: <b>{name}</b>\nlong: {'x' * 300}\n",
                    COUNTS,
                    summary,
                    language_model(embedding),
                    tuple(batches()),
                ),
                some_words(WORDS, COUNTS, 3),
                {"other": similarity(embedding, torch.randn(V, 10))},
            )
        )
    return found


@pytest.fixture(scope="session")
def report(findings, tmp_path_factory):
    """The page of a report on them."""
    return write_report(findings, WORDS, tmp_path_factory.mktemp("report"), "define analyze <a>")
