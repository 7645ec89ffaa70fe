"""LaTeX as MathML, which browsers draw by themselves: no script, no font, nothing to fetch."""

from __future__ import annotations

import re

from latex2mathml.converter import convert

OVERLINE = re.compile(r"<mover><mrow>(.*?)</mrow><mo[^>]*>[^<]*</mo></mover>")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
DISPLAYED = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?![\w$])")


def formula(latex: str, display: str = "inline") -> str:
    """One formula.

    Args:
        latex: without dollars.
        display: ``"inline"`` or ``"block"``.
    """
    # A line over a whole term stretches only where a font for mathematics is installed; a border always does.
    return OVERLINE.sub(r'<mrow style="border-top: 1px solid">\1</mrow>', convert(" ".join(latex.split()), display=display))


def with_formulas(text: str) -> str:
    """Markdown with the formulas between dollars drawn, those in code left as they are.

    Args:
        text: Markdown, as notebooks have it.
    """
    parts = CODE.split(text)
    for number in range(0, len(parts), 2):  # every other one is code
        parts[number] = DISPLAYED.sub(lambda found: formula(found[1], "block"), parts[number])
        parts[number] = INLINE.sub(lambda found: formula(found[1]), parts[number])
    return "".join(parts)
