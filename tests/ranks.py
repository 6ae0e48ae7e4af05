"""Two processes of a training, as torchrun starts them."""

import os
import signal
import socket

import forked
import torch
from tiny import arguments

from define.__main__ import main


def train(folder, run, *more, killed_at=0, make=arguments):
    """Trains by two processes, to the end or until both are killed; what the first one printed."""
    command = make(folder, run.path, "--training.devices", "2", *more)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [forked.process(_rank, rank, port, command, run.path, killed_at) for rank in (0, 1)]
    for process in ranks:
        process.start()
    try:
        for rank, process in enumerate(ranks):
            process.join(600)
            said = run.path.with_suffix(f".err{rank}").read_text()
            assert process.exitcode == (-signal.SIGKILL if killed_at else 0), said
    finally:
        for process in ranks:
            process.kill()
    return run.path.with_suffix(".out0").read_text()


def _rank(rank, port, command, path, killed_at):
    for number, name in ((1, "out"), (2, "err")):
        file = path.with_suffix(f".{name}{rank}")
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    names = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "RANK": rank, "LOCAL_RANK": rank}
    names |= {"GROUP_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    names |= {"TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in names.items()})
    from define.training.language_modeling import LanguageModeling

    step, calls = LanguageModeling.training_step, []

    def stepping(self, batch):
        calls.append(None)
        if len(calls) == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch)

    LanguageModeling.training_step = stepping
    torch.set_num_threads(1)
    main(command)
