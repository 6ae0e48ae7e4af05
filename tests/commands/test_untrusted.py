"""A run folder of a stranger imports and calls nothing, whatever its settings name."""

import shutil

import pytest
from messages import failure
from tiny import arguments

from define.__main__ import main

PLANTED = """
from pathlib import Path
Path("imported").touch()
def harm(*args, **kwargs):
    Path("called").touch()
class Harm:
    def __init__(self, *args, **kwargs):
        harm()
"""
PLANTS = (
    ("define.DeFINE", "planted.Harm"),
    ("define.DeFINE", "planted.harm"),
    ("torch.nn.GELU", "planted.Harm"),
    ("define.training.FusedAdam", "planted.harm"),
    ("define.training.FusedAdam", "torch.hub.load"),
    ("define.training.Cosine", "planted.Harm"),
    ("torch.nn.GELU", "define.files.os.abort"),  # what a module of ours has imported
    ("torch.nn.GELU", "torch.nn.modules.module.torch.load"),
)
COMMANDS = (
    ("evaluate", "RUN"),
    ("generate", "RUN"),
    ("analyze", "RUN"),
    ("export", "RUN", "--output", "out"),
)


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[1].path, tmp_path / "run")
    (tmp_path / "run" / "checksums.json").unlink()  # a stranger's would fit what is planted
    (tmp_path / "planted.py").write_text(PLANTED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "run"


@pytest.mark.parametrize("plant", PLANTS, ids=str)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_settings_name_is_refused(plant, command, run, capsys):
    config = (run / "config.yaml").read_text()
    assert plant[0] in config
    (run / "config.yaml").write_text(config.replace(*plant))
    message = failure(capsys, *(run if word == "RUN" else word for word in command))
    assert plant[1] in message and str(run / "config.yaml") in message
    main(["runs", str(run)])
    assert not list(run.parent.glob("imported")) and not list(run.parent.glob("called"))


def test_modules_of_ones_own_can_be_trusted(run, monkeypatch, capsys):
    (run.parent / "planted.py").write_text("from define import DeFINE\nclass Mine(DeFINE): pass\n")
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("define.DeFINE", "planted.Mine"))
    assert "DEFINE_MODULES=planted" in failure(capsys, "generate", run)
    monkeypatch.setenv("DEFINE_MODULES", "other,planted")
    main(["generate", str(run), "--length", "2"])
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["", "# recipe: text\n", "# recipe: text\n[1", "# recipe: text\n" + "[" * 5000]
)
def test_damaged_settings_are_named(text, run, capsys):
    (run / "config.yaml").write_text(text)
    assert "config.yaml" in failure(capsys, "evaluate", run)


def test_what_the_user_names_is_trusted(tmp_path, folder, monkeypatch, capsys):
    (tmp_path / "planted.py").write_text("from define import DeFINE\nclass Mine(DeFINE): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    command = [
        word.replace("DeFINE", "planted.Mine") for word in arguments(folder, tmp_path / "run")
    ]
    main(command)
    assert "finished run" in failure(capsys, *command)
    assert "DEFINE_MODULES" in failure(capsys, *arguments(folder, tmp_path / "run"))
