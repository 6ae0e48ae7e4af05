"""What outputs make of errors of rows, by direction."""

import copy

import tiny_models
import torch
import transformers
from test_compress import words

from define.huggingface import find_tables
from define.huggingface.sample import read_sample, sensitivity

LINES = [" ".join(f"w{(7 * i + j * j) % 100}" for j in range(12)) for i in range(120)]


def measured(model):
    tokenizer = words(tiny_models.V, unk_token="w0")
    return sensitivity(model, find_tables(model), tokenizer, LINES), tokenizer


def test_what_a_layer_norm_takes_out_costs_least():
    model = tiny_models.bert().base_model.eval()
    (metric,), _ = measured(model)
    ones = torch.full((tiny_models.M,), tiny_models.M**-0.5, dtype=torch.float64)
    assert ones @ metric @ ones < 1.1 * torch.linalg.eigvalsh(metric)[0]


@torch.no_grad()
def test_small_errors_move_outputs_as_the_metric_says():
    model = tiny_models.bert().base_model.eval()
    model.embeddings.LayerNorm.weight[:8] = 0  # of no use to what follows
    (metric,), tokenizer = measured(model)
    before = read_sample(model, tokenizer, LINES).vectors.double()
    vectors = torch.linalg.eigh(metric)[1]
    moved = []
    for direction in (vectors[:, 1:6], vectors[:, -5:]):
        other = copy.deepcopy(model)
        table = other.get_input_embeddings().weight
        noise = torch.randn(len(table), 5, generator=torch.Generator().manual_seed(0)).double()
        table += 1e-3 * (noise @ direction.mT).to(table)
        after = read_sample(other, tokenizer, LINES).vectors.double()
        moved.append(float((after - before).square().sum()))
    assert moved[0] < 0.3 * moved[1]


def test_heads_count_by_the_states_that_they_read():
    model = tiny_models.gpt2(tie_word_embeddings=False).eval()
    assert isinstance(model, transformers.GPT2LMHeadModel)
    (first, head), _ = measured(model)
    assert first.shape == head.shape == (tiny_models.M, tiny_models.M)
    assert torch.linalg.eigvalsh(head)[0] > 0 and not torch.allclose(first, head)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_lines_of_one_token_add_nothing_to_perplexity():
    model, tokenizer = tiny_models.gpt2().eval(), words(tiny_models.V, unk_token="w0")
    alone = read_sample(model, tokenizer, LINES[:16]).perplexity
    # A batch of lines that have no next word.
    assert read_sample(model, tokenizer, LINES[:16] + ["w5"] * 16).perplexity == alone
    assert read_sample(model, tokenizer, ["w5"] * 16).perplexity is None
