"""Measure why embeddings work: correlations, frequencies and neighbours, in a report."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from define.commands.common import subject_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def command(parser: "ArgumentParser", args: list[str]) -> None:
    """Runs the command."""
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
    from define import measures, report

    folders = [path for path in arguments.compare_with if path.is_dir()]
    subjects = {
        path: report.read_checkpoint(path, arguments.table)
        if report.is_checkpoint(path)
        else subject_of(path, arguments.data.path, arguments.split)
        for path in dict.fromkeys([*arguments.runs, *folders])
    }
    first = subjects[arguments.runs[0]]
    words = first.words
    for path, subject in subjects.items():
        if subject.words != words:
            raise ValueError(f"{path} has another vocabulary than {arguments.runs[0]}.")
    tables = {
        path.resolve().name: measures.held(subjects[path].table)
        if path in subjects
        else measures.read_table(path, len(words))
        for path in arguments.compare_with
    }
    chosen = report.find_words(words, arguments.words)
    chosen = chosen or report.some_words(words, first.counts)
    findings = []
    for subject in map(subjects.__getitem__, arguments.runs):
        ours = measures.held(subject.table) if tables else subject.table
        alike = {name: measures.similarity(ours, table) for name, table in tables.items()}
        findings.append(report.analyze(subject, chosen, alike))
    command = shlex.join(["define", "analyze", *args])
    print(report.write_report(findings, words, arguments.output, command, arguments.split))
