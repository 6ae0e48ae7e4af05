"""What Markdown files name is there: links, scripts, tests, sources."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMED = re.compile(r"\b(?:benchmarks|runs|tests|docs|src)/[\w./-]+\.(?:py|sh|md)\b")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_it_names_is_there(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    # A script that is gone is named with the commit that has it.
    lines = [line for line in text.splitlines() if "of commit " not in line]
    missing += [n for line in lines for n in NAMED.findall(line) if not (ROOT / n).exists()]
    assert not missing
