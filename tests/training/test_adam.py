import copy

import pytest
import torch
from tiny import experiment
from torch import nn

from define.training import FusedAdam, TransformerAdam


def after_steps(make, model, steps=5):
    model = copy.deepcopy(model)
    optimizer = make(model.parameters())
    for step in range(steps):
        draw = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(7, 3, generator=draw, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FusedAdam, torch.optim.Adam),
        (
            lambda params: FusedAdam(params, 0.1, (0.5, 0.9), 1e-3, 0.2),
            lambda params: torch.optim.Adam(params, 0.1, (0.5, 0.9), 1e-3, 0.2),
        ),
        # Vaswani et al. 2017, Sec. 5.3
        (TransformerAdam, lambda params: torch.optim.Adam(params, betas=(0.9, 0.98), eps=1e-9)),
    ],
)
def test_it_is_torchs_adam(ours, theirs):
    model = nn.Linear(3, 4, dtype=torch.float64)
    for mine, expected in zip(after_steps(ours, model), after_steps(theirs, model), strict=True):
        torch.testing.assert_close(mine, expected)


def test_its_gradients_can_be_clipped_in_low_precision(folder, run):
    setting = experiment(folder, learning_rate=0.03, precision="bf16-mixed", clip=0.25)
    assert setting.training.optimizer is FusedAdam
    assert setting.train(run)["valid_perplexity"] < 30  # of 48 words
