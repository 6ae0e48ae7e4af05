"""How the documentation is built: guide in Markdown, API reference from docstrings."""

import re
from typing import Any, NoReturn

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import define

project = "define-embeddings"
author = "the define-embeddings authors"
copyright = author  # noqa: A001
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
html_css_files = ["narrow.css"]
html_copy_source = False
html_math_renderer = "mathml"
html_show_sphinx = False
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


def mathml(tex: str, **options: bool) -> str:
    """A formula of LaTeX as MathML, whose brackets grow by themselves."""
    tex = re.sub(r"\\[bB]ig[gG]?[lr]?\b", "", tex).replace(r"\dots", r"\ldots")
    found = tex2mathml(tex, **options)
    # An index of a letter with a hat belongs beside it, not below.
    return re.sub(
        r"<munderover>\s*(<mi>.*?</mi>)\s*(<mi>.*?</mi>)\s*(<mo.*?</mo>)\s*</munderover>",
        r"<msub><mover>\1\3</mover>\2</msub>",
        found,
    )


def write_inline(writer: Any, node: Any) -> NoReturn:  # noqa: ANN401
    """Writes a formula within a line."""
    writer.body.append(mathml(node.astext()))
    raise SkipNode


def write_display(writer: Any, node: Any) -> NoReturn:  # noqa: ANN401
    """Writes a formula on lines of its own."""
    tex = node.astext().strip()
    if "&" in tex and r"\begin" not in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    writer.body.append(f'<div class="math">{mathml(tex, as_block=True)}</div>')
    raise SkipNode


def setup(app: Sphinx) -> None:
    """Formulas as MathML, which browsers draw themselves: no script to fetch."""
    app.add_html_math_renderer("mathml", (write_inline, None), (write_display, None))
