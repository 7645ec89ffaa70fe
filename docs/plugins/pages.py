"""The site's pages are the repository's documents where they lie, so that a text stands once and its links work on the site as in a checkout.

MkDocs takes one folder of documents; ours stand beside what they are about. This hook gives it those that ``mkdocs.yml`` names under ``documents``, called
by their paths in the repository, and whatever file of the repository they link to: a picture as it is, source text as a page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from flags import flag_table, scoring_flag_table
from messages import message_list
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebooks import notebook_text

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\()([^)#\s:]+)(?=[)#])")
FOLDER_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s:]+)\)")
SOURCES = {".py": "python", ".json": "json", ".cff": "yaml", ".cfg": "ini", ".toml": "toml", ".txt": "text", ".conf": "ini", "": "text"}
GENERATED = {
    "<!-- flags of train.json -->": flag_table,
    "<!-- flags of evaluate.json and inference.json -->": scoring_flag_table,
    "<!-- messages -->": message_list,
}
"""What a document has in these places is made from the code, so that it cannot be out of date."""


class TextPage(File):
    """A file of another kind that becomes a page."""

    def is_documentation_page(self) -> bool:
        """It is one."""
        return True


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the repository's documents, and what they link to, in the place of MkDocs' own list."""
    pages = [path for pattern in config.extra["documents"] for path in sorted(ROOT.glob(pattern)) if not path.is_symlink()]
    linked = {target for page in pages for target in _targets(page)} - {*pages}
    looks = [ROOT / name for name in (*config.extra["polyfills"], *config.extra_css)]  # some are the plugins' own
    found = [_file(path, config) for path in [*pages, *sorted(linked), *filter(Path.is_file, looks)]]
    return Files([*found, *(file for file in files if file.src_dir != config.docs_dir)])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated; lead links through symbolic links to the one file behind them; folders have no page, so that their links become text."""
    folder = ROOT / Path(page.file.src_uri).parent
    for mark, make in GENERATED.items():
        if mark in markdown:
            markdown = markdown.replace(mark, make(ROOT))
    markdown = FOLDER_LINK.sub(lambda link: link[1] if (folder / link[2]).is_dir() else link[0], markdown)
    return LINK.sub(lambda link: link[1] + _behind(folder, link[2]), markdown)


def _targets(page: Path) -> Iterator[Path]:
    text = notebook_text(page) if page.suffix == ".ipynb" else page.read_text("utf-8")
    for _, target in LINK.findall(text):
        path = (page.parent / target).resolve()
        if path.is_file() and path.is_relative_to(ROOT):
            yield path


def _behind(folder: Path, target: str) -> str:
    path = folder / target
    return os.path.relpath(path.resolve(), folder) if path.is_symlink() else target


def _file(path: Path, config: MkDocsConfig) -> File:
    name = path.relative_to(ROOT).as_posix()
    if path.suffix == ".ipynb":
        text = notebook_text(path)
    elif path.suffix in SOURCES:
        text = f"---\nsearch:\n  exclude: true\n---\n# {path.name}\n\n``````{SOURCES[path.suffix]}\n{path.read_text('utf-8')}\n``````\n"
    else:
        return File(name, str(ROOT), config.site_dir, use_directory_urls=False)
    page = TextPage(name, str(ROOT), config.site_dir, use_directory_urls=False, dest_uri=f"{name}.html")
    page.content_string = text
    return page
