"""One model of transformers through all that a user does with it, numbers compared at each step."""

import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from families import auto_class, tiny_model
from safetensors.torch import load_file, save_file
from torch import nn

from define import DeFINE
from define.embedding.base import table_size
from define.huggingface import export, replace_embedding
from define.huggingface.tables import input_tables
from define.huggingface.twins import output, tiny_batch

small_define = partial(DeFINE, map=8, expand_dim=16, depth=2, max_groups=2, std=0.5)
LENGTH = 3  # of what is generated


def close(found, expected, what):
    """Raises where two outputs differ by more than rounding explains."""
    size = max(expected.nan_to_num().abs().max().item(), 1e-3)
    torch.testing.assert_close(
        found,
        expected,
        atol=1e-4 * size,
        rtol=1e-3,
        equal_nan=True,
        msg=lambda text: f"{what}: {text}",
    )


def generated(model, batch):
    """Ids that a model gives one after another, greedily; None where it generates nothing."""
    if not model.can_generate() or model.get_output_embeddings() is None:
        return None
    ids = batch.get("input_ids", batch.get("decoder_input_ids"))
    options = {"attention_mask": torch.ones_like(ids)}
    if "encoder_outputs" in batch:
        options = {"encoder_outputs": batch["encoder_outputs"]}
        ids = None
    options |= {"max_new_tokens": LENGTH, "do_sample": False, "num_beams": 1, "pad_token_id": 3}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        try:
            return model.generate(ids, **options)
        except (ValueError, AttributeError, TypeError, RuntimeError):
            return None  # some tiny models do not generate, plain or not


def same_ids(found, expected, what):
    assert (found is None) == (expected is None), what
    assert found is None or torch.equal(found, expected), f"{what}: {found} {expected}"


def walk(model_type: str, folder: Path) -> str:
    """Replaces, trains, saves, generates, resizes and exports a model; `reload` loads it anew.

    Returns:
        Why it is not resized; nothing if it is.
    """
    auto, _ = auto_class(model_type)
    plain = tiny_model(model_type)
    batch = tiny_batch(plain)
    expected = output(plain, batch)
    # A copy of the table changes nothing.
    names = [t for t in plain.state_dict()]
    tables = iter([table.weight.detach().clone() for table in input_tables(plain)])
    copied = replace_embedding(
        plain, lambda v, m: nn.Embedding.from_pretrained(next(tables), freeze=False)
    )
    close(output(copied, batch), expected, "a copy of the table")
    same_ids(generated(copied, batch), generated(plain, batch), "a copy of the table")
    assert list(plain.state_dict()) == names and not hasattr(plain.config, "define")
    close(output(plain, batch), expected, "the old model afterwards")

    model = replace_embedding(plain, small_define)
    found = output(model, batch)
    assert not torch.equal(found, expected)
    if _trains(plain, batch, model_type == "reformer"):  # which does in training mode alone
        assert _trains(model, batch, model_type == "reformer")
        unit = [
            q for part in model.modules() if isinstance(part, DeFINE) for q in part.parameters()
        ]
        assert any(p.grad is not None and p.grad.any() for p in unit), "no gradient"
    model.eval().zero_grad(set_to_none=True)

    model.save_pretrained(folder / "ours")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*whatever it is told")  # T5 and its relatives
        plain_again = export(model)
    close(output(plain_again, batch), found, "export")
    ids = generated(model, batch)
    same_ids(generated(plain_again, batch), ids, "export")
    plain_again.save_pretrained(folder / "plain")
    tensors = {"found": found.contiguous()}
    if "encoder_outputs" not in batch:
        tensors |= {k: v for k, v in batch.items() if isinstance(v, torch.Tensor)}
        tensors |= {} if ids is None else {"ids": ids}
    save_file(tensors, folder / "expected.safetensors")
    (folder / "auto").write_text(auto.__name__)

    rows = table_size(model.get_input_embeddings())[0]
    try:
        model.resize_token_embeddings(rows + 5)
    except ValueError as error:
        close(output(model, batch), found, "what is not resized")
        return str(error)
    longer = output(model, batch)
    close(longer[..., : found.shape[-1]], found, "resize")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*whatever it is told")
        close(output(export(model), batch), longer, "export of a resized model")
    return ""


def _trains(model, batch, mode):
    """Whether a step backward works; some tiny models have none, plain as they are."""
    model.train(mode)
    try:
        found = model(**batch)
        values = found.values() if isinstance(found, dict) else found
        first = next(t for t in values if isinstance(t, torch.Tensor) and t.requires_grad)
        first.square().mean().backward()
    except RuntimeError:
        return False
    finally:
        model.eval()
    return True


def reload(folders: list[Path]) -> dict[str, str]:
    """Loads what `walk` saved in another process; what differs, by name of the folder."""
    command = [sys.executable, str(Path(__file__)), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def _loaded(folder: Path) -> None:
    import transformers

    tensors = load_file(folder / "expected.safetensors")
    found, ids = tensors.pop("found"), tensors.pop("ids", None)
    auto = getattr(transformers, (folder / "auto").read_text())
    for name in ("plain", "ours"):
        model = auto.from_pretrained(folder / name).eval()
        assert type(model).__name__.startswith("Define") == (name == "ours")
        batch = tensors or tiny_batch(model)
        if "use_cache" not in batch and tensors:
            batch = {**tensors, **{k: v for k, v in tiny_batch(model).items() if k == "use_cache"}}
        close(output(model, batch), found, f"{name} loaded")
        same_ids(generated(model, batch), ids if tensors else generated(model, batch), name)


if __name__ == "__main__":
    import define.huggingface  # noqa: F401

    torch.set_num_threads(1)
    problems = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for argument in sys.argv[1:]:
            try:
                _loaded(Path(argument))
            except Exception as error:  # noqa: BLE001  # told to the caller
                problems[Path(argument).name] = f"{type(error).__name__}: {error}"
    print(json.dumps(problems))
