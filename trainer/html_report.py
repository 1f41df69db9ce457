"""Writes a report as Markdown, and as one HTML file that contains its pictures."""

import base64
import html
import re
from pathlib import Path

from markdown_it import MarkdownIt

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em }
img { max-width: 100%; background: white }
table { border-collapse: collapse; margin: 1em 0 }
td, th { padding: .25em .8em; border-bottom: 1px solid #8884 }
pre { padding: .8em; overflow-x: auto; background: #8882 }
"""
KINDS = {".jpg": "jpeg", ".png": "png", ".svg": "svg+xml"}


def write(text: str, title: str, folder: Path) -> Path:
    """Writes `report.md` and `report.html` into a folder and returns the path of `report.html`.

    HTML in the text, for example in the name of a folder, is shown and not interpreted.

    Args:
        text: Markdown; its pictures are files of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(text)
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)

    def inline(match: re.Match[str]) -> str:
        file = folder / match.group(1)
        return f'src="data:image/{KINDS[file.suffix]};base64,{base64.b64encode(file.read_bytes()).decode()}"'

    body = re.sub(r'src="([^":]+)"', inline, body)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    path = folder / "report.html"
    path.write_text(
        f'<!doctype html><html lang="en"><head>{head}<style>{STYLE}</style></head><body>{body}</body></html>'
    )
    return path
