"""Processes that have imported everything, which takes a new interpreter seconds each time."""

import multiprocessing
import os

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["define.training.fit", "define.recipes.settings", "tensorboard"])


def process(function, *args):
    """A process that calls a function, and keeps ids of texts where this one does."""
    return CONTEXT.Process(target=_call, args=(os.environ.get("DEFINE_CACHE"), function, *args))


def _call(cache, function, *args):
    if cache is not None:
        os.environ["DEFINE_CACHE"] = cache
    function(*args)


def exit_code(function, *args):
    """That of a process that calls a function; the negative signal that ended it."""
    started = process(function, *args)
    started.start()
    started.join(300)
    return started.exitcode


def result(function, *args):
    """What a function gives in a process of its own."""
    ours, theirs = CONTEXT.Pipe(duplex=False)
    assert exit_code(_send, theirs, function, *args) == 0
    return ours.recv()


def _send(pipe, function, *args):
    pipe.send(function(*args))
