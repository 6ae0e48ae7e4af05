import pytest
import torch
from all_families import RIGHT, WRONG, first_line, sweep, table
from families import tiny_model
from transformers import CONFIG_MAPPING
from walk import reload, small_define, walk

from define.huggingface import replace_embedding

FAMILIES = (
    "bart",
    "bert",
    "clip_text_model",
    "deberta-v2",
    "distilbert",
    "electra",
    "falcon",
    "falcon_h1",
    "fsmt",
    "funnel",
    "gemma2",
    "gemma3_text",
    "gemma3n_text",
    "gemma4_text",
    "gpt2",
    "llama",
    "llava",
    "m2m_100",
    "mamba",
    "marian",
    "mbart",
    "mistral",
    "mobilebert",
    "modernbert",
    "mpnet",
    "mt5",
    "opt",
    "pegasus",
    "phi3",
    "qwen2",
    "qwen3",
    "reformer",
    "roberta",
    "t5",
    "umt5",
    "whisper",
    "xlm-roberta",
)
REFUSED = {"inkling_text": "InklingNormedEmbedding does more with its rows than to scale them"}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder for each family, and those that were filled."""
    return tmp_path_factory.mktemp("families"), []


@pytest.mark.parametrize("family", FAMILIES)
def test_every_step_gives_the_numbers_that_it_should(family, saved):
    root, filled = saved
    (root / family).mkdir()
    assert walk(family, root / family) == ""
    filled.append(root / family)


def test_what_was_saved_is_loaded_in_a_fresh_process(saved):
    _, filled = saved
    assert filled
    assert reload(filled) == {}


@pytest.mark.parametrize("family", REFUSED)
def test_what_is_refused_says_why(family):
    with pytest.raises(ValueError, match=REFUSED[family]):
        replace_embedding(tiny_model(family), small_define)


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("deepseek_v4", "100 tokens does not run"),  # experts are chosen by id
        ("cpmant", "1124 tokens does not compute what it should"),  # behind words are prompts
    ],
)
def test_a_vocabulary_that_is_used_elsewhere_is_not_resized(family, words, tmp_path):
    assert words in walk(family, tmp_path)
    plain = tiny_model(family)  # transformers resizes neither
    size = plain.config.vocab_size + 5
    plain.resize_token_embeddings(size)
    with pytest.raises(IndexError):
        plain(torch.tensor([[size - 1]]))


def test_the_table_of_families_counts():
    found = {"a": ("A", RIGHT, ""), "b": ("B", WRONG, first_line(ValueError("x | y\nz")))}
    text = table(found)
    assert "1 types are right, 0 are refused" in text
    assert text.index("| `b` | `B` | WRONG: x \\| y z |") < text.index("| `a` | `A` | right |")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_nothing_is_wrong_in_any_type_that_transformers_knows():
    found = sweep(sorted(CONFIG_MAPPING), progress=True)
    assert {t: row for t, row in found.items() if row[1] == WRONG} == {}
    assert sum(row[1] == RIGHT for row in found.values()) > 150
