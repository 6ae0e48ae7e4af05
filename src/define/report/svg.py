"""Figures as SVG whose text and colours are the reader's: any script, a light or a dark page."""

from __future__ import annotations

import logging
import re
import unicodedata
import warnings
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_svg import FigureCanvasSVG, RendererSVG
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from define.files import write_bytes, write_text
from define.report.style import PAPER, THEME

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["fallback_fonts", "save", "svg"]

_VARIABLES = {light: f"--figure-{i}" for i, light in enumerate(THEME)}
_LIGHT, _DARK = (
    ";".join(f"{_VARIABLES[light]}:{colour}" for light, colour in pairs)
    for pairs in (zip(THEME, THEME, strict=True), THEME.items())
)
_STYLE = (
    f"<style>:root{{color-scheme:light dark;{_LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}</style>"
)
_IMAGE_DPI = 120  # of heat maps within an SVG, where noise takes many bytes


def svg(figure: Figure, description: str = "") -> str:
    """A figure as an SVG element, to be put into a page or a file of its own.

    Its text is text, in the fonts of whoever looks at it. Its colours are those of
    :data:`~define.report.style.THEME`, the second of each pair where a dark page is preferred.

    Args:
        figure: The figure, made while :func:`~define.report.style.drawing` holds, as now.
        description: What it shows, for those who cannot see it.
    """
    out = StringIO()
    canvas = Canvas(figure)
    canvas.print_svg(out)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # nothing refers to them; in a page they collide
    text = re.sub(
        "|".join(_VARIABLES), lambda found: f"var({_VARIABLES[found[0]]})", text, flags=re.I
    )
    title = f' role="img" aria-label="{_escaped(description)}"' if description else ""
    return re.sub(r"<svg([^>]*)>", rf"<svg\1{title}>{_STYLE}", text, count=1)


def save(figure: Figure, path: str | Path) -> list[str]:
    """Writes a figure to a file: SVG, or PNG, PDF and what else the ending says.

    Returns:
        The characters that no font here has: they are boxes in the file. None in an SVG, whose
        fonts are the reader's.
    """
    path = Path(path)
    if path.suffix == ".svg":
        write_text(path, svg(figure))
        return []
    missing: set[str] = set()
    buffer, fonts = BytesIO(), logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)  # a font for other scripts may be there in another weight alone
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            figure.savefig(buffer, format=path.suffix[1:] or "png", facecolor=PAPER, dpi=200)
    finally:
        fonts.setLevel(level)
    for warning in caught:
        if found := re.match(r"Glyph (\d+) .* missing from", str(warning.message)):
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    write_bytes(path, buffer.getvalue())
    return sorted(missing)


def fallback_fonts(text: str) -> list[str]:
    """Matplotlib's own font, and those installed that have what it lacks of some text."""
    families, missing = ["DejaVu Sans"], {c for c in text if not _has(c)}
    for font in fontManager.ttflist:
        # Last Resort, which comes with Matplotlib, has a box for every character.
        if missing and not font.name.startswith("Last Resort"):
            covered = {c for c in missing if get_font(font.fname).get_char_index(ord(c))}
            families += [font.name] if covered else []
            missing -= covered
    return families


@cache
def _has(character: str) -> bool:
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return bool(font.get_char_index(ord(character)))


def _measurable(text: str) -> str:
    """Text as wide as the reader will see it, of characters that Matplotlib's font has."""
    return "".join(
        c
        if c.isspace() or _has(c)
        else ""
        if unicodedata.combining(c)
        else "\N{EM SPACE}"
        if unicodedata.east_asian_width(c) in "WF"
        else "n"
        for c in text
    )


class _Renderer(RendererSVG):
    def get_text_width_height_descent(
        self,
        s: str,
        prop: FontProperties,
        ismath: Any,  # noqa: ANN401
    ) -> tuple[float, float, float]:
        return super().get_text_width_height_descent(_measurable(s), prop, ismath)


class Canvas(FigureCanvasSVG):
    """Lays out a figure whose text the reader's fonts will show.

    Matplotlib measures text with a font of its own, which has no Chinese, for example, and warns
    of that: needlessly, since an SVG with text holds no glyphs.
    """

    def get_renderer(self) -> _Renderer:
        """A renderer to measure text with."""
        return _Renderer(*self.get_width_height(), StringIO())

    def print_svg(self, filename: Any, **options: Any) -> None:  # noqa: ANN401
        width, height = self.figure.get_size_inches()
        out, nothing = StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
        inner = _Renderer(72 * width, 72 * height, out, image_dpi=_IMAGE_DPI, metadata=nothing)
        renderer: Any = MixedModeRenderer(self.figure, width, height, _IMAGE_DPI, inner)
        self.figure.draw(renderer)
        renderer.finalize()
        filename.write(out.getvalue())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
