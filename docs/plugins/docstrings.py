"""The package's docstrings as mkdocstrings wants them: Sphinx' roles become links and MathML, an example becomes code."""

from __future__ import annotations

import re
from typing import Any

import griffe
from formulas import formula  # beside this file; pages.py, which MkDocs loads first, has it imported

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`(~?)([\w.]+)`")
FORMULA = re.compile(r":math:`([^`]+)`")
DISPLAYED = re.compile(r"^( *)\.\. math::[ \n]+(.+)$", re.MULTILINE)
LITERAL = re.compile(r"^( *)::\n\n((?:\1 {4}.*\n|\n)+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrite each docstring before it is parsed."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = _rewritten(obj.docstring.value)

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Called for each class, all of them read: keywords of a dataclass, its bases' too, become one table instead of a heading each."""
        if not any("kw_only=True" in str(decorator.value) for decorator in cls.decorators):
            return
        table: dict[str, str] = {}
        for part in (cls, *cls.mro()):
            for name, field in part.members.items():
                if "instance-attribute" in field.labels and field.docstring:
                    self.fields[field.path] = _rewritten(" ".join(field.docstring.value.split()))
                    field.docstring = None  # has no heading then
                if field.path in self.fields:
                    table.setdefault(name, self.fields[field.path])
        lines = "".join(f"\n    {name}: {text}" for name, text in table.items())
        cls.docstring.value = cls.docstring.value.replace("\n\nRaises:", f"\n\nArgs:{lines}\n\nRaises:", 1)


def _rewritten(text: str) -> str:
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = LITERAL.sub(lambda block: f"{block[1]}```text\n{_dedented(block[2], len(block[1]) + 4, block[1])}\n{block[1]}```\n", text)
    text = DISPLAYED.sub(lambda found: found[1] + formula(found[2], "block"), text)
    text = FORMULA.sub(lambda found: formula(found[1]), text)
    return ROLE.sub(_link, text)


def _link(role: re.Match[str]) -> str:
    name = role[2]
    shown = name.rsplit(".", 1)[-1] if role[1] else name
    # Optional: what is not public has no place on the site, and keeps its name alone.
    return f'<autoref identifier="{name}" optional><code>{shown}</code></autoref>' if name.startswith("monai_anomaly.") else f"`{shown}`"


def _dedented(block: str, by: int, indent: str) -> str:
    return "\n".join(indent + line[by:] for line in block.rstrip("\n").split("\n"))
