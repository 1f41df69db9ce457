"""Makes links from documentation pages to other files of the repository work on the site.

Pages link to files outside `docs/` by relative paths, so that the links also work in a checkout. The site contains a
copy of each such file. `NOTICE`, `CHANGELOG.md` and `README.md` have pages of their own.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "repository"
PAGES = {"NOTICE": "notice.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
LINK = re.compile(r"(?P<label>!?\[[^\]\n]*\])\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def _outside(page: str, target: str) -> str | None:
    """Returns the path of a link's target in the repository, or None for a target inside `docs/` or elsewhere."""
    if "://" in target or target.startswith(("mailto:", "/")):
        return None
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith(("docs/", "../")) or path == "docs" else path


def copied_files(pages: Iterator[tuple[str, str]]) -> set[str]:
    """Returns the repository files outside `docs/` that pages link to. Takes pairs of page path and Markdown."""
    targets = {_outside(page, match["target"]) for page, text in pages for match in LINK.finditer(text)}
    return {path for path in targets if path is not None and path not in PAGES and (ROOT / path).is_file()}


def rewrite(page: str, markdown: str) -> str:
    """Returns the Markdown with links to the copies. Links to folders become plain text; dead links stay."""

    def replace(match: re.Match[str]) -> str:
        path = _outside(page, match["target"])
        if path is None:
            return match[0]
        if (ROOT / path).is_dir():
            return match["label"].strip("![]")
        if not (ROOT / path).is_file():
            return match[0]
        target = PAGES.get(path, f"{FOLDER}/{path}")
        relative = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return f"{match['label']}({relative}{match['anchor'] or ''})"

    return LINK.sub(replace, markdown)
