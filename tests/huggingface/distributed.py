"""Two processes train one step as one process does: by DDP, and by FSDP2 with several units."""

import copy
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_models import EMBEDDINGS, MODELS, small_define, tokens
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from define.huggingface import replace_embedding

WAYS = {
    "map": (small_define, None),
    "bands": (EMBEDDINGS["adaptive"], None),
    "rows": (small_define, "embedding"),
}
# Kind of model, how its head is tied, what is sharded by itself.
CASES = [
    ("gpt2", "map", "transformer.h"),
    ("gemma", "bands", "model.layers"),
    ("marian", "rows", "model.decoder.layers"),
]


def step(model, ids):
    """One step of gradient descent; the loss before it."""
    arguments = {"decoder_input_ids": ids} if model_config(model).is_encoder_decoder else {}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logits = model(ids, **arguments).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())
    loss.backward()
    optimizer.step()
    return logits.detach()


def model_config(model):
    return getattr(model, "module", model).config


def made(kind, way):
    torch.manual_seed(0)
    factory, tie = WAYS[way]
    return replace_embedding(MODELS[kind](), factory, tie=tie).eval()  # without dropout


def check(found, expected, what):
    for (name, p), q in zip(found.named_parameters(), expected.parameters(), strict=True):
        p = p.full_tensor() if hasattr(p, "full_tensor") else p
        assert torch.allclose(p, q, atol=1e-5, rtol=1e-4), f"{what} {name}: {p} {q}"


def run(rank, folder):
    os.environ |= {"MASTER_ADDR": "localhost", "GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.set_num_threads(1)
    for kind, way, layers in CASES:
        model = made(kind, way)
        ids = tokens(4)
        mine = ids[2 * rank : 2 * rank + 2]
        single = copy.deepcopy(model)
        logits = step(single, ids)[2 * rank : 2 * rank + 2]
        parallel = DistributedDataParallel(copy.deepcopy(model))
        torch.testing.assert_close(step(parallel, mine), logits)
        check(parallel.module, single, f"DDP {kind} {way}")
        for own_unit in (False, True):
            sharded = copy.deepcopy(model)
            for layer in sharded.get_submodule(layers):
                fully_shard(layer)
            if own_unit:
                fully_shard(sharded.get_input_embeddings())
            fully_shard(sharded)
            torch.testing.assert_close(step(sharded, mine), logits)
            check(sharded, single, f"FSDP2 {kind} {way} {own_unit}")
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(run, (Path(sys.argv[1]),), nprocs=2)
