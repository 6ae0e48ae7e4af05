"""How the documentation is built: guide in Markdown, API reference from docstrings."""

import re
import sys
from pathlib import Path

import define

sys.path.insert(0, str(Path(__file__).parent))

project = "define-embeddings"
author = "the define-embeddings authors"
release = define.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "**/_*"]
html_theme = "furo"
html_title = f"define-embeddings {release}"
html_static_path = ["static"]
html_copy_source = False
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# RESULTS.md and others lie above this folder and link to each other by their places there.
suppress_warnings = ["myst.xref_missing"]

default_role = "py:obj"  # `name` links to what has that name, and else is code
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False


def escape(app, what, name, obj, options, lines):  # noqa: ANN001, ANN201, ARG001
    """Stars and bars in docstrings are themselves, outside of code and of examples."""
    for number, line in enumerate(lines):
        if not line.startswith((">>>", "...")):
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = (re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2])
            lines[number] = "".join(parts)


def setup(app):  # noqa: ANN001, ANN201
    """Connects what this file adds to Sphinx."""
    app.connect("autodoc-process-docstring", escape, priority=100)
