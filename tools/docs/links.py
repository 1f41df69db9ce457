"""Resolves links from documentation pages to other files of the repository.

Pages link to files outside `docs/` by relative paths, so that the links also work in a checkout. The site contains a
copy of each such file. `NOTICE`, `CHANGELOG.md` and `README.md` have their own pages.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "repository"
PAGES = {"NOTICE": "notice.md", "CHANGELOG.md": "changelog.md", "README.md": "index.md"}
LINK = re.compile(r"(?P<label>!?\[[^\]\n]*\])\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def _location(page: str) -> str:
    """Returns the path of a page in the repository. A copied page is resolved as if it were in its own folder."""
    return page.removeprefix(f"{FOLDER}/") if page.startswith(f"{FOLDER}/") else f"docs/{page}"


def _target(page: str, target: str) -> str | None:
    """Returns the repository path that a relative link leads to, or None for URLs and paths outside the repository."""
    if "://" in target or target.startswith(("mailto:", "/")):
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(_location(page)), target))
    return None if path.startswith("../") else path


def copied_files(pages: Iterator[tuple[str, str]]) -> set[str]:
    """Returns the repository files outside `docs/` that pages link to. Takes pairs of page path and Markdown."""
    targets = {_target(page, match["target"]) for page, text in pages for match in LINK.finditer(text)}
    return {
        path
        for path in targets
        if path is not None and not path.startswith("docs/") and path not in PAGES and (ROOT / path).is_file()
    }


def rewrite(page: str, markdown: str, copied: Callable[[str], bool]) -> str:
    """Returns the Markdown with links that work on the site.

    Links to repository files lead to their pages or copies. Links to folders and to files that the site does not
    contain become plain text. Links to files that do not exist stay, so that the build reports them.

    Args:
        copied: returns whether the site contains a copy of a repository file.
    """

    def replace(match: re.Match[str]) -> str:
        path = _target(page, match["target"])
        if path is None or not (ROOT / path).exists():
            return match[0]
        is_page = path.startswith("docs/") and not (ROOT / path).is_dir()
        if not is_page and path not in PAGES and not copied(path):
            return match["label"].strip("![]")
        target = path.removeprefix("docs/") if is_page else PAGES.get(path, f"{FOLDER}/{path}")
        relative = posixpath.relpath(target, posixpath.dirname(page) or ".")
        return f"{match['label']}({relative}{match['anchor'] or ''})"

    return LINK.sub(replace, markdown)
