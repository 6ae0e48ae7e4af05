"""What Markdown files name is there: links, scripts and their options, tests, sources."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
NAMED = re.compile(r"\b(?:benchmarks|runs|tests|docs|src)/[\w./-]+\.(?:py|sh|md)\b")
CALLED = re.compile(r"((?:benchmarks|runs)/\w+\.py)([^`#]*)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_it_names_is_there(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    # A script that is gone is named with the commit that has it.
    lines = [line for line in text.splitlines() if "of commit " not in line]
    missing += [n for line in lines for n in NAMED.findall(line) if not (ROOT / n).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_have_the_options_that_it_gives_them(document):
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (line for line in text.splitlines() if "of commit " not in line)
    calls = [call for line in lines for call in CALLED.findall(line)]
    unknown = [
        (script, option)
        for script, rest in calls
        for option in re.findall(r"(?<= )--[\w-]+", rest.partition(" -- ")[0])
        if f'"{option}"' not in (ROOT / script).read_text(encoding="utf-8")
    ]
    assert not unknown
