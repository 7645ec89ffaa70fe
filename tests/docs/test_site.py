"""The site that ``make docs`` has built asks nobody for anything when it is read, and what makes its pages."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from support.repository import ROOT, module

from monai_anomaly.transforms.pseudo import CutPaste, GaussianPatch, PerlinPatch, RectangleCutPaste, ScarCutPaste, SimplexPatch

for needed in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
    pytest.importorskip(needed, reason="needs the packages of the extra `docs`")


@pytest.fixture(scope="module")
def site():
    """What ``make docs`` has built, which does so without a warning or fails."""
    folder = ROOT / "site"
    if not (folder / "index.html").is_file():
        pytest.skip("needs the site: make docs")
    return folder


def test_nothing_is_fetched_by_a_reader(site):
    pages = [*site.rglob("*.html")]
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:[^\" >]+)", text) + re.findall(
            r"<link[^>]*\shref=\"?(https?:[^\" >]+)", text
        )
        assert not loaded, (page, loaded)


def test_what_is_generated_is_there(site):
    assert "PixelSpacing is" in (site / "docs" / "messages.html").read_text(encoding="utf-8")
    reference = (site / "docs" / "bundle_reference.html").read_text(encoding="utf-8")
    assert "--weight_floor" in reference and "--smoothing_mm" in reference
    assert "<math" in (site / "docs" / "api" / "losses.html").read_text(encoding="utf-8")
    networks = (site / "docs" / "api" / "networks.html").read_text(encoding="utf-8")
    assert "<autoref" not in networks and not re.search(r"<p>[^<]*:class:", networks)
    assert "SkipTS" in (site / "monai_anomaly" / "networks" / "skip_ts.py.html").read_text(encoding="utf-8")


def test_a_notebook_becomes_text_code_and_pictures(tmp_path):
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "Some text."]},
        {
            "cell_type": "code",
            "source": ["print(1)"],
            "outputs": [
                {"output_type": "stream", "text": ["\x1b[31m1\x1b[0m\n"]},
                {"output_type": "display_data", "data": {"image/png": "iVBO\nRw==\n", "text/plain": ["<Figure>"]}},
                {"output_type": "execute_result", "data": {"text/markdown": ["| a |\n", "|---|"], "text/plain": ["<Markdown>"]}},
            ],
        },
        {"cell_type": "code", "source": [], "outputs": []},
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}))
    text = module("docs/plugins/notebooks.py").notebook_text(tmp_path / "a.ipynb")
    fence = "`" * 6
    picture = '<img alt="picture" src="data:image/png;base64,iVBORw==">'
    assert text.split("\n\n") == [
        "# Title\nSome text.",
        f"{fence}python\nprint(1)\n{fence}",
        f"{fence}text\n1\n{fence}",
        picture,
        "| a |\n|---|",
    ]


def test_formulas_are_drawn_and_code_is_left_alone():
    text = module("docs/plugins/formulas.py").with_formulas(
        "$p$ of at most $1/(n+1)$: `$train` and 5 $ or 6 $.\n\n```\n$a$\n```\n$$\\frac{1}{n}$$"
    )
    assert text.count("<math") == 3 and text.count('display="block"') == 1 and "<mfrac>" in text
    assert "`$train` and 5 $ or 6 $." in text and "```\n$a$\n```" in text


def test_docstrings_keep_their_words():
    rewritten = module("docs/plugins/docstrings.py")._rewritten(
        "A :class:`~monai_anomaly.networks.Teacher`, :math:`M_l`.\n\n::\n\n    S = D(T)\n\nExample:\n    >>> 1\n    1"
    )
    assert '<autoref identifier="monai_anomaly.networks.Teacher" optional><code>Teacher</code></autoref>' in rewritten
    assert "<math" in rewritten and "```text\nS = D(T)\n```" in rewritten and "Examples:" in rewritten


def test_every_option_of_a_pseudo_anomaly_stands_in_its_table():
    """Those that its base classes have, too, each once; what a subclass only sets anew keeps its words."""
    griffe = pytest.importorskip("griffe", reason="needs the packages of the extra `docs`")
    package = griffe.load(
        "monai_anomaly", search_paths=[ROOT], extensions=griffe.load_extensions(module("docs/plugins/docstrings.py").Docstrings)
    )
    for kind in (CutPaste, GaussianPatch, PerlinPatch, RectangleCutPaste, ScarCutPaste, SimplexPatch):
        told = package[f"transforms.pseudo.{kind.__name__}"]
        table = next(part.value for part in told.docstring.parse("google") if part.kind.value == "parameters")
        assert sorted(option.name for option in table) == sorted(inspect.signature(kind).parameters)
        assert all(len(option.description) > 20 and option.annotation and option.default for option in table)
        assert not any(member.has_docstring for name, member in told.members.items() if name in inspect.signature(kind).parameters)
