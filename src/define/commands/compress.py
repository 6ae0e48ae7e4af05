"""Compress the token table of a Hugging Face checkpoint into a DeFINE."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def command(parser: "ArgumentParser", args: list[str]) -> None:
    """Runs the command."""
    parser.add_argument("model", type=Path, help="folder of the checkpoint")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the result")
    parser.add_argument(
        "--share",
        type=float | None,
        default=None,
        help="parameters of the DeFINE over those of the table; picks --map and --expand_dim",
    )
    parser.add_argument("--map", type=int | None, default=None, help="width n of the Map")
    parser.add_argument("--expand_dim", type=int | None, default=None, help="width k of Expand")
    parser.add_argument("--depth", type=int, default=1, help="layers of Expand")
    parser.add_argument("--max_groups", type=int, default=1, help="groups of Expand's first layer")
    parser.add_argument(
        "--weights",
        type=Path | None,
        default=None,
        help="text file with one number a line, what an error in each row of the table costs",
    )
    parser.add_argument("--rounds", type=int, default=40, help="most rounds of the fit")
    parser.add_argument("--seed", type=int, default=0, help="of the fit")
    arguments = parser.parse_args(args)
    if (arguments.share is None) == (arguments.map is None):
        raise ValueError("Give either --share or --map.")
    if arguments.share is not None and arguments.expand_dim is not None:
        raise ValueError("--share picks --expand_dim: give --map instead of --share.")
    if arguments.output.exists():
        raise ValueError(f"{arguments.output} exists already: name another --output.")
    from define import DeFINE
    from define.compression import widths_for_share
    from define.huggingface.compress import compress, load_plain, read_weights

    def make(num_embeddings: int, embedding_dim: int, padding_idx: int | None) -> DeFINE:
        shape = {"depth": arguments.depth, "max_groups": arguments.max_groups}
        map, expand_dim = arguments.map, arguments.expand_dim
        if arguments.share is not None:
            widths = widths_for_share(num_embeddings, embedding_dim, arguments.share, **shape)
            map, expand_dim = widths.map, widths.expand_dim
            print(f"map={map}, expand_dim={expand_dim}: {widths.parameters:,} parameters")
        if expand_dim is not None:
            shape["expand_dim"] = expand_dim
        return DeFINE(num_embeddings, embedding_dim, padding_idx, map=map, **shape)

    weights = None if arguments.weights is None else read_weights(arguments.weights)
    model, tokenizer = load_plain(arguments.model)
    model, result = compress(model, make, weights, rounds=arguments.rounds, seed=arguments.seed)
    model.save_pretrained(arguments.output)
    if tokenizer is not None:
        tokenizer.save_pretrained(arguments.output)
    print(result)
