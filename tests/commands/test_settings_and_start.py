"""Help, printed settings, and what the start of a command imports."""

import subprocess
import sys

import pytest
import yaml
from messages import failure

from define.__main__ import main
from define.recipes.settings import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_printed_settings_can_be_fed_back(name, tmp_path, capsys):
    data = [] if name == "pydocs" else ["--data.path", str(tmp_path)]

    def printed(*more):
        with pytest.raises(SystemExit) as exit:
            main(["train", name, *more, "--print_config"])
        assert exit.value.code == 0
        return capsys.readouterr().out

    first = printed(*data, "--seed", "7", "--training.epochs", "9", "--embedding_std", "0.5")
    settings = yaml.safe_load(first)
    classes = ("define.DeFINE", "define.AdaptiveEmbedding")
    assert settings["embedding"] is None or settings["embedding"]["class_path"] in classes
    assert (settings["seed"], settings["training"]["epochs"]) == (7, 9)
    assert settings["embedding_std"] == 0.5
    (tmp_path / "config.yaml").write_text(first)
    assert printed("--config", str(tmp_path / "config.yaml")) == first
    assert printed("--config", str(tmp_path / "config.yaml"), "--seed", "8") != first


def test_the_configuration_of_a_run_is_the_whole_command(trained, tmp_path, capsys):
    folder, run = trained
    again = ("train", "text", "--config", run.config, "--run")
    assert "finished run" in failure(capsys, *again, run.path)
    main([*map(str, again), str(tmp_path / "again")])
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == run.weights.read_bytes()
    assert (tmp_path / "again" / "config.yaml").read_bytes() == run.config.read_bytes()


@pytest.mark.parametrize("command", [[], ["--help"], ["-h"]])
def test_help_names_the_commands(command, capsys):
    main(command)
    out = capsys.readouterr().out
    names = ("train", "evaluate", "generate", "translate", "compare", "parameters", "embeddings")
    for name in names:
        assert f"\n  {name} " in out
    assert all(len(line) <= 100 for line in out.splitlines())


MISSING = """
import sys
from define.__main__ import main
sys.modules[sys.argv[1]] = None
main(sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("jsonargparse", ["parameters"]),
        ("transformers", ["compress", "MODEL", "--share", "0.5", "--output", "OUT"]),
    ],
)
def test_what_is_not_installed_is_named(missing, command, tmp_path):
    (tmp_path / "MODEL").mkdir()
    process = subprocess.run(
        [sys.executable, "-c", MISSING, missing, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert process.returncode == 1
    assert process.stderr.startswith(f"define: {missing}"), process.stderr
    assert process.stderr.count("\n") == 1 and f"define {command[0]} needs" in process.stderr


IMPORTED = """
import contextlib, io, sys
from define.__main__ import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
heavy = ("torch", "torch._dynamo", "lightning", "matplotlib", "tensorboard", "transformers")
print(*(name for name in heavy if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        (["--help"], ""),
        (["parameters"], "torch"),
        (["embeddings", "--num_embeddings", "9000", "--embedding_dim", "256"], "torch"),
        (["train", "--help"], "torch"),
        (["compress", "--help"], ""),
        (["generate", "RUN", "--length", "2"], "torch"),
    ],
)
def test_quick_commands_import_little(command, heavy, trained):
    command = [str(trained[1].path) if part == "RUN" else part for part in command]
    process = subprocess.run(
        [sys.executable, "-c", IMPORTED, *command], capture_output=True, text=True, timeout=900
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == heavy.split()
