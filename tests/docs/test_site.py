"""The site builds without a warning, and asks nobody for anything: neither when it is built nor when it is read."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from support.plugins import ROOT, plugin

for module in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
    pytest.importorskip(module, reason="needs the packages of the extra `docs`")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-5000:]
    return folder


@pytest.mark.slow
def test_nothing_is_fetched_by_a_reader(site):
    pages = [*site.rglob("*.html")]
    assert len(pages) > 50
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"?(https?:[^\" >]+)", text) + re.findall(
            r"<link[^>]*\shref=\"?(https?:[^\" >]+)", text
        )
        assert not loaded, (page, loaded)


@pytest.mark.slow
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
    text = plugin("notebooks").notebook_text(tmp_path / "a.ipynb")
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
    text = plugin("formulas").with_formulas("$p$ of at most $1/(n+1)$: `$train` and 5 $ or 6 $.\n\n```\n$a$\n```\n$$\\frac{1}{n}$$")
    assert text.count("<math") == 3 and text.count('display="block"') == 1 and "<mfrac>" in text
    assert "`$train` and 5 $ or 6 $." in text and "```\n$a$\n```" in text


def test_docstrings_keep_their_words():
    rewritten = plugin("docstrings")._rewritten(
        "A :class:`~monai_anomaly.networks.Teacher`, :math:`M_l`.\n\n::\n\n    S = D(T)\n\nExample:\n    >>> 1\n    1"
    )
    assert '<autoref identifier="monai_anomaly.networks.Teacher" optional><code>Teacher</code></autoref>' in rewritten
    assert "<math" in rewritten and "```text\nS = D(T)\n```" in rewritten and "Examples:" in rewritten
