"""Models of classes that are the user's own."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import M, V, logits, small_define, tokens
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

from define.huggingface import export, replace_embedding
from define.huggingface.compress import compress, compress_to


class MineConfig(PreTrainedConfig):
    model_type = "mine"
    vocab_size: int = V
    hidden_size: int = M
    tie_word_embeddings: bool = True


class UnknownConfig(MineConfig):
    model_type = "unknown kind"


class Mine(PreTrainedModel):
    config_class = MineConfig
    _tied_weights_keys = {"head.weight": "table.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.table = nn.Embedding(config.vocab_size, config.hidden_size)
        self.mixer = nn.Linear(config.hidden_size, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.finish()

    def finish(self):
        self.post_init()

    def get_input_embeddings(self):
        return self.table

    def set_input_embeddings(self, value):
        self.table = value

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, **arguments):
        hidden = self.mixer(self.table(input_ids)).cumsum(1)
        return CausalLMOutput(logits=self.head(hidden))


class Unfinished(Mine):
    def finish(self):
        pass


@pytest.fixture
def registered():
    AutoConfig.register("mine", MineConfig)
    AutoModelForCausalLM.register(MineConfig, Mine)
    yield
    del CONFIG_MAPPING._extra_content["mine"]


FRESH = """
import sys
from safetensors.torch import load_file, save_file

sys.path.insert(0, sys.argv[2])
import define.huggingface, test_own_classes
from transformers import AutoConfig, AutoModelForCausalLM

try:
    AutoModelForCausalLM.from_pretrained(sys.argv[1])
except ValueError as error:
    assert "AutoConfig.register" in str(error), error
AutoConfig.register("mine", test_own_classes.MineConfig)
AutoModelForCausalLM.register(test_own_classes.MineConfig, test_own_classes.Mine)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = load_file(sys.argv[1] + "/ids")["ids"]
save_file({"found": model(ids).logits.detach()}, sys.argv[1] + "/found")
"""


@pytest.mark.usefixtures("registered")
def test_a_kind_that_is_registered_is_replaced_saved_and_loaded(tmp_path):
    model = replace_embedding(Mine(MineConfig()), small_define)
    expected = logits(model, ids := tokens())
    torch.testing.assert_close(logits(export(model), ids), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model)), ids), expected)
    model.save_pretrained(tmp_path)
    save_file({"ids": ids}, tmp_path / "ids")
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(load_file(tmp_path / "found")["found"], expected)
    model.resize_token_embeddings(V + 3)
    torch.testing.assert_close(logits(model, ids)[..., :V], expected)


def test_a_kind_that_could_not_be_loaded_is_refused_before_anything_is_fitted():
    model = Mine(UnknownConfig())
    for call in (
        lambda: replace_embedding(model, small_define),
        lambda: compress(model, lambda *_: pytest.fail("fitted")),
        lambda: compress_to(model, share=0.1, report=lambda _: pytest.fail("fitted")),
    ):
        with pytest.raises(TypeError, match="no model_type='unknown kind'. Call Auto"):
            call()


@pytest.mark.usefixtures("registered")
def test_a_class_that_is_not_initialized_as_those_of_transformers():
    with pytest.raises(ValueError, match="Unfinished does not say what is tied.*post_init"):
        replace_embedding(Unfinished(MineConfig()), small_define)
