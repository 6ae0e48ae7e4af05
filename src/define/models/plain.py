"""A language model as a plain graph of torch: one token in, log-probabilities and a state out."""

import copy
import warnings
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.utils._pytree import PyTree, tree_leaves, tree_structure, tree_unflatten

from define.embedding import Embedding
from define.models.language_model import LanguageModel

__all__ = ["plain_step", "start_state"]

_LONGEST = 2048  # tokens to fill a memory with


def start_state(model: LanguageModel, batch: int = 1) -> list[Tensor]:
    """The tensors of the state before the first token of a text."""
    weight = next(model.backbone.parameters())
    empty = weight.new_zeros(batch, 0, cast(int, model.backbone.input_size))
    return tree_leaves(model.backbone(empty)[1])


class _Step(nn.Module):
    def __init__(self, model: LanguageModel, layout: PyTree) -> None:
        super().__init__()
        table = model.embedding
        self.embedding = table.to_embedding() if isinstance(table, Embedding) else table
        self.backbone, self.head, self._layout = model.backbone, model.head, layout
        tied = getattr(model.head, "tied", None)
        self.tied = None if tied is None else tied.module  # its parameters are the head's too

    def forward(self, tokens: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        before = tree_unflatten(list(state), self._layout)
        hidden, after = self.backbone(self.embedding(tokens.unsqueeze(1)), before)
        return self.head.log_prob(hidden.select(1, 0)), *tree_leaves(after)


@torch.no_grad()
def plain_step(model: LanguageModel) -> tuple[fx.GraphModule, list[list[int]]]:
    """One step of a model, in evaluation mode, as operations of torch on plain tensors.

    Tables that are computed from others, such as the rows of DeFINE, are computed once and kept,
    so nothing of this package is left. The number format is float32.

    Returns:
        A module ``(tokens, *state) -> (log_probabilities, *state)`` for ids (batch,) int64, whose
        parameters are all tensors that it reads; and for each tensor of the state the axes that may
        have any size.

    Raises:
        ValueError: If the model writes in place into a tensor of its own, such as `torch.zeros(3)`.
    """
    model = copy.deepcopy(model).float().cpu().eval()
    start, (_, after) = start_state(model, 2), model.hidden(torch.zeros(3, 2, dtype=torch.int64))
    # What differs between those states is of any size: the batch, and what remembers a text.
    sizes = [(a.shape, b.shape) for a, b in zip(start, tree_leaves(after), strict=True)]
    axes = [[i for i in range(len(a)) if a[i] != b[i]] for a, b in sizes]
    time, state = 2, start
    while True:  # The example's memory is full: one that is a token short is a case by itself.
        _, after = model.hidden(torch.zeros(2, time, dtype=torch.int64))
        full = [t.shape for t in tree_leaves(after)] == [t.shape for t in tree_leaves(state)]
        time, state = 2 * time, after
        if full or time > _LONGEST:
            break
    any_size = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        # That LSTM layers of torch gather their weights when they are called.
        warnings.filterwarnings("ignore", "The tensor attributes? .*_flat_weights", UserWarning)
        program = torch.export.export(
            _Step(model, tree_structure(state)),
            (torch.zeros(2, dtype=torch.int64), *tree_leaves(state)),
            dynamic_shapes=({0: any_size}, tuple({i: any_size for i in found} for found in axes)),
        )
    return _folded(program), axes


def _folded(program: torch.export.ExportedProgram) -> fx.GraphModule:
    """The graph of a program, with what depends on parameters alone computed once."""
    names = {
        **program.graph_signature.inputs_to_parameters,
        **program.graph_signature.inputs_to_buffers,
        **program.graph_signature.inputs_to_lifted_tensor_constants,
    }
    tensors = {**program.state_dict, **program.constants}
    root, graph = nn.Module(), program.graph_module.graph
    known: dict[fx.Node, Any] = {}
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.name in names:
            known[node] = tensors[names[node.name]]
        elif node.target is torch.ops.aten._assert_tensor_metadata.default:
            graph.erase_node(node)
        elif node.op == "call_function" and all(read in known for read in node.all_input_nodes):
            args, options = map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **options)
        elif any(part in known for part in _written(node)):
            raise ValueError(f"{node.target} writes into a constant, which would remember it.")
    for node, value in known.items():
        if isinstance(value, Tensor) and any(user not in known for user in node.users):
            with graph.inserting_before(node):
                name = _kept(root, names.get(node.name), node.name, value)
                kept = graph.create_node("get_attr", name)
                node.replace_all_uses_with(kept, lambda user: user not in known)
    for node in reversed(known):
        graph.erase_node(node)
    return fx.GraphModule(root, graph).eval()


def _written(node: fx.Node) -> list[fx.Node]:
    """What a node changes in place."""
    schema = getattr(node.target, "_schema", None)
    pairs = [] if schema is None else zip(schema.arguments, node.args, strict=False)
    written = (given for a, given in pairs if a.alias_info is not None and a.alias_info.is_write)
    return [given for given in written if isinstance(given, fx.Node)]


def _kept(root: nn.Module, parameter: str | None, node: str, value: Tensor) -> str:
    """Keeps a tensor under a name, or finds the name under which it is kept already."""
    for name, tensor in root.named_parameters():
        # What input and output compute apart is one table where they are tied.
        one = parameter is None and tensor.dim() > 1 and torch.equal(tensor, value)
        if one or tensor.is_set_to(value):  # a transpose or a part begins at the same place
            return name
    name = node if parameter is None else parameter.replace(".", "_")
    while hasattr(root, name):  # that of `a.b_c`, which `a_b.c` would have too
        name += "_"
    value = value.detach().contiguous()
    if value.is_floating_point():
        root.register_parameter(name, nn.Parameter(value))
    else:
        root.register_buffer(name, value)
    return name
