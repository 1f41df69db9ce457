"""MkDocs hooks: render the generated reference pages, resolve links into the repository, check for external resources.

A line `<!-- generated: settings -->` in a page stands for generated content. It is rendered at every build, so that the
reference always agrees with the code. The lines that follow the marker up to the next empty line are a note for readers
of the repository; the generated content replaces them too.
"""

import importlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # MkDocs loads this file alone; `tools`, `service` and `trainer` lie in the root

from tools.docs import links  # noqa: E402

log = logging.getLogger("mkdocs.hooks.docs")  # strict mode counts warnings below the logger `mkdocs`
MARKER = re.compile(r"^<!-- generated: (?P<name>[a-z-]+) -->$(?:\n.+)*", re.MULTILINE)
GENERATORS = frozenset({"cli", "client", "metrics", "operations", "schemas", "settings", "training"})
"""Modules of tools.docs with a function `render`. A marker names one of them."""
PROBLEMS_PAGE = "reference/problems.md"
EXTERNAL = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replaces each navigation entry `folder/*` by the pages of that folder, the README first."""
    config.nav = [_expand(entry, Path(config.docs_dir)) for entry in config.nav or []]
    return config


def _expand(entry: Any, docs: Path) -> Any:
    if isinstance(entry, list):
        return [_expand(item, docs) for item in entry]
    if isinstance(entry, dict):
        return {title: _expand(value, docs) for title, value in entry.items()}
    if not entry.endswith("/*"):
        return entry
    pages = sorted(docs.glob(f"{entry}.md"), key=lambda path: (path.stem != "README", path.name))
    return [path.relative_to(docs).as_posix() for path in pages]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the change log, the notice, and the repository files that pages link to."""
    pages = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    for path in sorted(links.copied_files(iter(pages))):
        files.append(File.generated(config, f"{links.FOLDER}/{path}", abs_src_path=str(ROOT / path)))
    changelog = (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=changelog))
    notice = (ROOT / "NOTICE").read_text()
    files.append(File.generated(config, "notice.md", content=f"# Notice\n\n```text\n{notice}```\n"))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Replaces the markers of generated content and rewrites links that leave `docs/`."""
    if page.file.src_uri == PROBLEMS_PAGE:
        markdown = importlib.import_module("tools.docs.problems").add_titles(markdown)
    markdown = MARKER.sub(lambda match: _generated(match["name"]), markdown)
    return links.rewrite(
        page.file.src_uri, markdown, lambda path: files.get_file_from_path(f"{links.FOLDER}/{path}") is not None
    )


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Warns about scripts, styles, images and frames that a page would load from another server."""
    for match in EXTERNAL.finditer(output):
        log.warning("%s loads an external resource: %s", page.file.src_uri, match[0])
    return output


def _generated(name: str) -> str:
    """Returns the Markdown of a generator.

    Raises:
        ValueError: no generator has this name.
    """
    if name not in GENERATORS:
        raise ValueError(f"the marker names the unknown generator {name!r}; choose one of {sorted(GENERATORS)}")
    markdown: str = importlib.import_module(f"tools.docs.{name}").render()
    return markdown
