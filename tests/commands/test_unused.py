"""An option that would have no effect is an error, or is said before training."""

import shutil

import numpy as np
import pytest
import tiny_pairs
from messages import failure
from tiny import Killed, arguments

from define.__main__ import main
from define.training import Experiment


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("generate", "RUN", "--temperature", 0, "--top_k", 5), "--top_k 5 is for samples"),
        (("generate", "RUN", "--temperature", 0, "--seed", 2), "--seed 2 is for samples"),
        (("evaluate", "RUN", "--cache.theta", 0.3), "--cache.theta 0.3 needs a --cache.size"),
        (("evaluate", "RUN", "--tune_cache", "--cache.weight", 0.3), "--cache.weight 0.3 would"),
        (("compare", "RUN", "--json", "--average_seeds"), "--average_seeds is for the table"),
        (("analyze", "RUN", "--table", "wte"), "--table wte is for checkpoints"),
        (("analyze", "MODEL", "--split", "valid"), "--split valid is for runs"),
        (("analyze", "MODEL", "--data.path", "TEXT"), "is for runs"),
        (("cutoffs", "--data.path", "TEXT", "--width", 8, "--bands", 1), "--bands 1 must be at"),
        (("cutoffs", "--data.path", "TEXT", "--width", 8, "--bands", 60), "words for at most 50"),
        (("cutoffs", "--data.path", "TEXT", "--width", 8, "--div_value", 4), "--bands 5 leaves"),
        (("compress", "TABLE", "--share", 0.5, "--accept"), "--accept is for models"),
        (("compress", "MODEL", "--share", 2), "--share 2.0 must be above 0 and at most 1"),
        (("compress", "TABLE", "--share", 0.5, "--power", 1), "--power 1.0 is for the counts"),
        (("compress", "TABLE", "--share", 0.5, "--depth", 2), "--depth 2 is for a DeFINE"),
        (("compress", "TABLE", "--map", 2), "--map 2 is for checkpoints"),
        (("compress", "RUN", "--share", 0.5, "--rounds", 2), "--rounds 2 is for a DeFINE"),
        (("compress", "RUN", "--share", 0.5, "--text", "TEXT"), "is for checkpoints"),
    ],
)
def test_it_is_refused_with_its_value(trained, tmp_path, capsys, command, said):
    folder, run = trained
    table, model = tmp_path / "table.npy", tmp_path / "model"
    np.save(table, np.eye(8, 4, dtype=np.float32))
    model.mkdir()
    (model / "config.json").write_text("{}")
    places = {"RUN": run.path, "TABLE": table, "MODEL": model, "TEXT": folder}
    command = [places.get(part, part) for part in command]
    if command[0] == "compress":
        command += ["--output", tmp_path / "small"]
    assert said in failure(capsys, *command)


def stop_before_training(monkeypatch, command):
    def train(*_):
        raise Killed

    monkeypatch.setattr(Experiment, "train", train)
    with pytest.raises(Killed):
        main(command)


CUT = ("--embedding", "AdaptiveEmbedding", "--embedding.cutoffs", "[10,30]")
CUT = (*CUT, "--embedding.div_value", "2")
MAP = ("--embedding", "ProjectedEmbedding", "--embedding.map", "AdaptiveEmbedding")
FROM_TEXT = ("--training.start_from_text", "true")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data.size", "90"), "--data.size 90 has no effect: no tokenizer is learned."),
        (("--data.vocabulary", "WORDS", "--data.min_count", "2"), "the vocabulary is given"),
        (
            ("--data.tokenizer", "bpe", "--data.size", "40", "--data.max_size", "30"),
            "--data.max_size 30 has no effect: it is for words, and these are subwords.",
        ),
        ((*CUT, "--cutoffs", "[5]"), "--cutoffs [5] has no effect: the softmax is cut as"),
        (("--output_size", "6", "--narrow", "true", *CUT), "the last layer is 8 wide"),
        (("--output_size", "6"), "--hidden_size 8 has no effect: the only layer is 6 wide."),
        ((*CUT, "--training.unit_rate", "0.3"), "no row of the embedding is computed"),
        ((*CUT, "--embedding.std", "0.5"), "--embedding.std 0.5 has no effect: tables are drawn"),
        ((*MAP, "--embedding.map.init_args.std", "5"), "--embedding.map.std 5.0 has no effect"),
        (
            ("--training.optimizer", "torch.optim.SGD", "--training.optimizer.lr", "20"),
            "--training.optimizer.lr 20.0 has no effect: the rate is --training.learning_rate.",
        ),
        (("--training.shard_parameters", "true"), "there is one device"),
        (
            ("--start_from", "RUN", "--cutoffs", "[]", *FROM_TEXT),
            "has no effect: it starts from a run",
        ),
        (
            ("--cutoffs", "[]", "--dropout", "0.5"),
            "--dropout 0.5 has no effect: it is between layers, and there is one.",
        ),
    ],
)
def test_it_is_said_before_training(trained, tmp_path, cache, caplog, monkeypatch, options, said):
    folder, run = trained
    words = shutil.copy(run.vocabulary, tmp_path)
    places = {"WORDS": words, "RUN": str(run.path)}
    options = [places.get(option, option) for option in options]
    recipe = "penn-treebank-small" if "[]" in options else "text"
    command = [*arguments(folder, tmp_path / "run", recipe=recipe), *options]
    if "--embedding" in options:  # in place of the one there
        first = command.index("--embedding")
        del command[first : first + 10]
    stop_before_training(monkeypatch, command)
    assert any(said in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (("torch.optim.AdamW",), ["--training.optimizer.weight_decay is 0.0, as the recipe has"]),
        (("torch.optim.AdamW", "--training.optimizer.weight_decay", "0.1"), []),
        (("torch.optim.SGD",), []),
        (("NTASGD",), ["--training.optimizer.weight_decay is 0.0, as the recipe has"]),
        (("FusedAdam",), []),
    ],
)
def test_what_another_optimizer_keeps_of_the_recipes_is_said(
    trained, tmp_path, cache, caplog, monkeypatch, optimizer, said
):
    command = [*arguments(trained[0], tmp_path / "run"), "--training.optimizer", *optimizer]
    stop_before_training(monkeypatch, command)
    found = [message for message in caplog.messages if "--training.optimizer" in message]
    assert len(found) == len(said) and all(map(str.startswith, found, said))


def test_of_the_width_of_a_map_that_is_given(trained, tmp_path, cache, caplog, monkeypatch):
    sizes = ("--embedding_dim", "8", "--num_heads", "2", "--head_dim", "4", "--inner_dim", "8")
    command = ["train", "wikitext-2-transformer-xl", "--data.path", str(trained[0]), *sizes]
    command += ["--run", str(tmp_path / "run"), "--num_layers", "1", "--cutoffs", "[10,30]"]
    command += ["--training.accelerator", "cpu", "--embedding", "torch.nn.Embedding"]
    stop_before_training(monkeypatch, [*command, "--map_dim", "16"])
    said = "--map_dim 16 has no effect: the embedding that is given has its own width."
    assert said in caplog.messages


def test_of_devices_that_somebody_else_gives(trained, tmp_path, cache, caplog, monkeypatch):
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "1")
    command = [*arguments(trained[0], tmp_path / "run"), "--training.devices", "2"]
    stop_before_training(monkeypatch, command)
    said = "--training.devices 2 has no effect: whoever started this process gave it 1."
    assert said in caplog.messages


def test_of_subwords_that_are_given(tmp_path, cache, caplog, monkeypatch):
    folder, file = tiny_pairs.write_pairs(tmp_path / "pairs"), tmp_path / "tokenizer.json"
    tiny_pairs.pairs(folder).open().tokenizer.write(file)
    command = tiny_pairs.arguments(folder, tmp_path / "run", "--data.tokenizer", str(file))
    stop_before_training(monkeypatch, [*command, "--data.vocabulary_size", "60"])
    said = "--data.vocabulary_size 60 has no effect: the tokenizer is given."
    assert said in caplog.messages


def test_all_that_has_an_effect_is_quiet(trained, tmp_path, cache, caplog, monkeypatch):
    command = [*arguments(trained[0], tmp_path / "run"), "--training.unit_rate", "0.3"]
    stop_before_training(monkeypatch, command)
    assert "no effect" not in caplog.text
