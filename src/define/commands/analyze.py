"""Measure why embeddings work: correlations, frequencies and neighbours, in a report."""

import shlex
from pathlib import Path

from define.commands import ArgumentParser
from define.commands.common import summary_of, warn_of_differences
from define.commands.unused import refuse


def command(parser: ArgumentParser, args: list[str]) -> None:
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        help="folders of runs, or of Hugging Face checkpoints, of one vocabulary",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("analysis"), help="folder of the report"
    )
    parser.add_argument("--words", nargs="*", default=[], help="words to find neighbours of")
    parser.add_argument(
        "--compare_with",
        "--compare-with",
        type=Path,
        nargs="*",
        default=[],
        help="other runs, checkpoints or tables (.npy, .safetensors) of the same vocabulary",
    )
    parser.add_argument(
        "--table", default=None, help="the checkpoints' embedding, where its name is unusual"
    )
    parser.add_argument("--split", default="test", help="text for perplexity by frequency")
    parser.add_argument("--data.path", type=Path | None, default=None, help="where the text is now")
    arguments = parser.parse_args(args)
    from define.measures import Subject, find_words, held, is_checkpoint, read_table
    from define.report import write_report

    folders = [path for path in arguments.compare_with if path.is_dir()]
    kinds = {is_checkpoint(path) for path in (*arguments.runs, *folders)}
    if True not in kinds:
        refuse(parser, arguments, ["table"], "is for checkpoints, and there is none")
    if False not in kinds:
        refuse(parser, arguments, ["split", "data.path"], "is for runs, and there is none")

    def read(path: Path) -> list[Subject]:
        if not is_checkpoint(path):
            from define.recipes.settings import open_run

            experiment, run = open_run(path, arguments.data.path)
            return experiment.subjects(run, summary_of(run), arguments.split)
        from define.huggingface.files import read_checkpoint  # imports transformers

        return [read_checkpoint(path, arguments.table)]

    read_once = {path: read(path) for path in dict.fromkeys([*arguments.runs, *folders])}
    words = read_once[arguments.runs[0]][0].words
    for path, subjects in read_once.items():
        if any(subject.words != words for subject in subjects):
            raise ValueError(f"{path} has another vocabulary than {arguments.runs[0]}.")
    tables = {}
    for path in dict.fromkeys(arguments.compare_with):
        if path in read_once:
            found = {subject.name: held(subject.table) for subject in read_once[path]}
        else:
            found = {path.resolve().name: read_table(path, len(words))}
        if same := found.keys() & tables:
            raise ValueError(f"--compare_with names two of the name {min(same)!r}: {path} is one.")
        tables |= found
    subjects = [subject for path in arguments.runs for subject in read_once[path]]
    texts = {x.summary.name: x.summary.texts for x in subjects if x.summary}
    warn_of_differences([*texts], texts=[*texts.values()])
    page = write_report(
        subjects,
        arguments.output,
        chosen=find_words(words, arguments.words),
        tables=tables,
        command=shlex.join(["define", "analyze", *args]),
        split=arguments.split,
    )
    print(page)
