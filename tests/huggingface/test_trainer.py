import pytest
import torch
from tiny_models import MODELS, small_define, tokens
from transformers import Trainer, TrainingArguments

from define.huggingface import embedding_of, replace_embedding


def _trainer(folder, kind, steps, **options):
    torch.manual_seed(0)
    model = replace_embedding(MODELS[kind](), small_define)
    ids = tokens(24)
    data = [{"input_ids": row, "labels": row} for row in ids]
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=4,
        max_steps=steps,
        save_steps=3,
        logging_steps=1,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=3,
        **options,
    )
    return Trainer(model, arguments, train_dataset=data)


@pytest.mark.parametrize("kind", ["gpt2", "marian"])
def test_training_resumes_to_the_same_numbers(kind, tmp_path):
    whole = _trainer(tmp_path / "whole", kind, 6)
    before = {k: p.detach().clone() for k, p in whole.model.named_parameters()}
    whole.train()
    losses = [entry["loss"] for entry in whole.state.log_history if "loss" in entry]
    assert len(losses) == 6 and losses[-1] < losses[0]
    unit = dict(embedding_of(whole.model).named_parameters())
    moved = [k for k, p in whole.model.named_parameters() if not torch.equal(p, before[k])]
    assert all(any(key.endswith(name) for key in moved) for name in unit)

    _trainer(tmp_path / "part", kind, 3).train()
    rest = _trainer(tmp_path / "part", kind, 6)
    rest.train(resume_from_checkpoint=True)
    expected = dict(whole.model.named_parameters())
    for name, parameter in rest.model.named_parameters():
        assert torch.equal(parameter, expected[name]), name


# It changes with transformers 6.
NAMES = ("activation_checkpointing", "gradient_checkpointing")
NAME = next(name for name in NAMES if name in TrainingArguments.__dataclass_fields__)


def test_training_with_checkpointing_is_the_same(tmp_path):
    found = []
    for checkpointing in (False, True):
        trainer = _trainer(tmp_path, "gpt2", 3, **{NAME: checkpointing})
        trainer.train()
        found.append(dict(trainer.model.named_parameters()))
    for name, parameter in found[0].items():
        torch.testing.assert_close(found[1][name], parameter)
