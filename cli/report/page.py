"""Renders a self-contained HTML page with headings, text, tables and embedded pictures."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif; color: #111; background: #fff; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
figcaption { color: #444; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; color: #444; }
th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ccc; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$sections
</main>
</body>
</html>
""")


@dataclass(frozen=True)
class Picture:
    """A PNG file with a text alternative for screen readers and a caption that explains how to read it."""

    path: Path
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table in which the first cell of each row is the row's heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph and the pictures and tables below it."""

    title: str
    words: str = ""
    parts: Sequence[Picture | Table] = field(default_factory=tuple)


def render(title: str, sections: Sequence[Section]) -> str:
    """Renders the page as HTML; all text is escaped, because names come from untrusted files."""
    return PAGE.substitute(title=escape(title), sections="\n".join(map(_section, sections)))


def _section(section: Section) -> str:
    words = f"<p>{escape(section.words)}</p>\n" if section.words else ""
    parts = "\n".join(_picture(part) if isinstance(part, Picture) else _table(part) for part in section.parts)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{words}{parts}\n</section>"


def _picture(picture: Picture) -> str:
    content = base64.b64encode(picture.path.read_bytes()).decode()
    return (
        f'<figure>\n<img src="data:image/png;base64,{content}" alt="{escape(picture.alt)}">\n'
        f"<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' if cell else "<td></td>" for cell in table.head)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>"
    head = f"<thead><tr>{head}</tr></thead>\n" if any(table.head) else ""
    return f"<table>\n{caption}\n{head}<tbody>\n{rows}\n</tbody>\n</table>"
