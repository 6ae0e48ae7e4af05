"""Write what needs nothing of this package: models and vectors of runs, plain models."""

from pathlib import Path

from define.commands import ArgumentParser


def command(parser: ArgumentParser, args: list[str]) -> None:
    parser.add_argument("model", type=Path, help="folder of a run, or of a checkpoint")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the result")
    parser.add_argument("--onnx", action="store_true", help="write an ONNX file too")
    arguments = parser.parse_args(args)
    from define.measures import is_checkpoint

    write = _checkpoint if is_checkpoint(arguments.model) else _run
    write(arguments.model, arguments.output, arguments.onnx)
    for file in sorted(arguments.output.iterdir()):
        print(file)


def _run(folder: Path, output: Path, onnx: bool) -> None:
    """A run's vectors, and the whole model for torch or transformers alone."""
    from define.recipes.loaded import load

    load(folder).export(output, onnx=onnx)


def _checkpoint(folder: Path, output: Path, onnx: bool) -> None:
    """A checkpoint with an embedding of this package as one of transformers alone."""
    from transformers import AutoConfig

    import define.huggingface
    from define.files import new_folder
    from define.huggingface import carry_files, export, export_onnx

    config = AutoConfig.from_pretrained(folder)
    if not hasattr(config, "define"):
        raise ValueError(f"{folder} has no embedding of this package: it is plain already.")
    architecture = getattr(define.huggingface, (config.architectures or [""])[0])
    with new_folder(output) as draft:
        small = architecture.from_pretrained(folder).eval()
        model = export(small)
        before, after = (sum(p.numel() for p in part.parameters()) for part in (small, model))
        print(f"{before:,} -> {after:,} parameters")
        if any(place.inputs and place.heads for place in define.huggingface.places_of(small)):
            head = model.get_output_embeddings()
            if head is None or head.weight is not model.get_input_embeddings().weight:
                print("The head was tied to the embedding; it has a table of its own now.")
        model.save_pretrained(draft)
        carry_files(folder, draft)
        if onnx:
            export_onnx(model, draft / "model.onnx")
