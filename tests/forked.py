"""Processes that have imported everything, which takes a new interpreter seconds each time."""

import multiprocessing

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["define.training.fit", "define.recipes.settings", "tensorboard"])


def exit_code(function, *args):
    """That of a process that calls a function; the negative signal that ended it."""
    process = CONTEXT.Process(target=function, args=args)
    process.start()
    process.join(300)
    return process.exitcode


def result(function, *args):
    """What a function gives in a process of its own."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    assert exit_code(_send, theirs, function, *args) == 0
    return ours.recv()


def _send(pipe, function, *args):
    pipe.send(function(*args))
