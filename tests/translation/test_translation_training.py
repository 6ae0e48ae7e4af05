import copy
import functools
import sys
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from test_translation_model import MAKERS
from tiny import Killed
from tiny_pairs import experiment
from torch import nn

from define import DeFINE, Softmax, TiedSoftmax
from define.training import Constant, Run
from define.translation.training import Translating, smoothed_nll


def small_define(num_embeddings, embedding_dim):
    return DeFINE(num_embeddings, embedding_dim, map=8, expand_dim=16, depth=2, max_groups=2)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_smoothed_labels_equal_the_formula(tied, smoothing):
    table = nn.Embedding(30, 8, dtype=torch.float32)
    head = TiedSoftmax(table, 16) if tied else Softmax(16, 30)
    nn.init.normal_(head.bias)
    hidden = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(30, (50,))
    parameters = [hidden, *head.parameters(), *(table.parameters() if tied else ())]
    nll, smoothed = smoothed_nll(head, hidden, targets, smoothing)
    found = torch.autograd.grad(smoothed.mean(), parameters)

    log_prob = head.log_prob(hidden)
    picked = log_prob.gather(-1, targets[:, None]).squeeze(-1)
    written = -(1 - smoothing) * picked - smoothing / 30 * log_prob.sum(-1)
    torch.testing.assert_close(nll, -picked)
    torch.testing.assert_close(smoothed, written)
    reference = F.cross_entropy(log_prob, targets, label_smoothing=smoothing)
    torch.testing.assert_close(smoothed.mean(), reference)
    for ours, theirs in zip(found, torch.autograd.grad(reference, parameters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tied", [False, True])
def test_smoothed_labels_of_models_in_other_number_formats(dtype, tied):
    """Their error is that of the output layer itself, which rounds its logits."""
    table = nn.Embedding(30, 8)
    head = TiedSoftmax(table, 16) if tied else Softmax(16, 30)
    nn.init.normal_(head.bias)
    hidden, targets = torch.randn(50, 16), torch.randint(30, (50,))
    hidden = hidden.to(dtype)
    both = nn.ModuleList([table, head]).to(dtype)
    exact: nn.Module = copy.deepcopy(both).double()[1]
    log_prob = exact.log_prob(hidden.double())
    nll = -log_prob.gather(-1, targets[:, None]).squeeze(-1)
    expected = 0.9 * nll - 0.1 * log_prob.mean(-1)
    found_nll, found = smoothed_nll(head, hidden, targets, 0.1)
    tolerance = 1e-12 if dtype == torch.float64 else 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(found_nll.double(), nll, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found.double(), expected, atol=tolerance, rtol=tolerance)


def test_padding_has_no_part_in_the_loss(folder):
    model = experiment(folder, small_define, dropout=0.0).model
    module = Translating(model, experiment(folder, small_define).training, 10)
    source = torch.tensor([[4, 5, 6, 1], [7, 1, 0, 0]])
    targets = torch.tensor([[5, 6, 1], [8, 1, -100]])
    _, smoothed = module.losses((source, targets), 0.1)
    alone = [
        module.losses((source[:1], targets[:1]), 0.1)[1],
        module.losses((source[1:, :2], targets[1:, :2]), 0.1)[1],
    ]
    torch.testing.assert_close(smoothed, torch.cat(alone))
    assert module.count_tokens((source, targets, 5)) == 5
    with pytest.raises(ValueError, match="label_smoothing=1"):
        Translating(model, experiment(folder, small_define).training, 10, 1)


def test_parts_of_batches_train_as_the_batches_do(folder, tmp_path):
    """Plain descent: Adam would turn the rounding of a sum into steps of full size."""
    plain = {"optimizer": torch.optim.SGD, "schedule": Constant(), "rate": 0.1, "dropout": 0.0}
    runs = [Run(tmp_path / str(parts)) for parts in (1, 3)]
    one, two = (
        experiment(folder, small_define, accumulate_grad_batches=parts, **plain).train(run)
        for parts, run in zip((1, 3), runs, strict=True)
    )
    for name, expected in load_file(runs[0].weights).items():
        found = load_file(runs[1].weights)[name]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert one["tokens"] == two["tokens"]


def test_what_is_needed_in_the_end_is_missed_before_training(folder, tmp_path, monkeypatch):
    for wrong in ("num_beams", "batch_size"):
        with pytest.raises(ValueError, match=f"{wrong}=0"):
            replace(experiment(folder, nn.Embedding), **{wrong: 0})
    for split in ("train", "valid", "test"):
        (folder / f"{split}.ja").write_bytes((folder / f"{split}.de").read_bytes())
    monkeypatch.delitem(sys.modules, "sacrebleu.tokenizers.tokenizer_ja_mecab", raising=False)
    monkeypatch.setitem(sys.modules, "MeCab", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install sacrebleu\[ja\]"):
        experiment(folder, nn.Embedding, target="ja").check()
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    monkeypatch.setattr("define.training.fit.fit", None)
    with pytest.raises(ModuleNotFoundError, match="sacrebleu"):
        experiment(folder, nn.Embedding).train(Run(tmp_path / "run"))


def test_a_killed_run_resumes_to_the_same_numbers(folder, tmp_path, monkeypatch):
    def fresh():
        return experiment(folder, small_define, dropout=0.3, checkpoint_minutes=0)

    whole, again = Run(tmp_path / "whole"), Run(tmp_path / "again")
    expected = fresh().train(whole)
    step, calls = Translating.training_step, []
    for kill in (5, 12):

        @functools.wraps(step)
        def killed(self, batch, kill=kill):
            calls.append(None)
            if len(calls) == kill:
                raise Killed
            return step(self, batch)

        with monkeypatch.context() as patch:
            patch.setattr(Translating, "training_step", killed)
            with pytest.raises(Killed):
                fresh().train(again)
    found = fresh().train(again)
    assert whole.weights.read_bytes() == again.weights.read_bytes()
    for name in ("history", "tokens", "valid_bleu", "test_bleu", "test_perplexity"):
        assert found[name] == expected[name]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(("share", "tie"), [(True, True), (False, False)])
def test_the_start_is_at_one_scale_for_every_kind(folder, kind, share, tie):
    from tiny_pairs import pairs

    from define.recipes import wmt14

    makers = {
        "standard": nn.Embedding,
        "projected": lambda v, m: MAKERS["projected"]().__class__(v, m, map=16),
        "DeFINE": lambda v, m: DeFINE(v, m, map=16, expand_dim=64, depth=2, max_groups=2),
    }
    options = {"embedding_dim": 64, "num_layers": 1, "num_heads": 2, "inner_dim": 64}
    found = wmt14(pairs(folder), makers[kind], share=share, tie=tie, **options)
    ids = torch.arange(50)
    for embedding in (found.model.embedding, found.model.decoder_embedding):
        rows = embedding(ids) * found.model.scale
        assert 0.8 < rows.std() < 1.25
