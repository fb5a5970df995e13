"""Renders a self-contained HTML page of headings, text, tables and embedded pictures, in the look of the service."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from string import Template

import app

STYLE = Path(app.__file__).parent / "api" / "page" / "style.css"
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style
main { max-width: 72rem; }
figure { margin: 1rem 0; padding: .5rem; color: #1c1f24; background: #fff; border: 1px solid var(--line); }
img, svg { display: block; width: 48rem; max-width: 100%; height: auto; margin: auto; }
svg { width: 100%; }
td:has(a) { min-width: 26rem; }
td a { color: inherit; text-decoration-color: var(--line); }
figcaption { color: #59606b; font-size: .875rem; }
svg a:hover, svg :target { filter: drop-shadow(0 0 4px #b44a00); }
:target { scroll-margin-top: 8rem; outline: 2px solid var(--orange); }
</style>
</head>
<body>
<header class="bar"><span class="name">jepa report</span></header>
<main>
<h1>$title</h1>
$sections
</main>
</body>
</html>
""")


@dataclass(frozen=True)
class Picture:
    """A PNG file with a text alternative for screen readers and a caption that explains how to read it; the page shows
    `svg` instead where there is one, since parts of that can be links."""

    path: Path
    alt: str
    caption: str
    svg: str = ""


@dataclass(frozen=True)
class Link:
    """Words that lead to the element `target` of the page, and are one themselves, so that it can lead back."""

    words: str
    target: str
    name: str


@dataclass(frozen=True)
class Table:
    """A table in which the first cell of each row is the row's heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Link]]


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph and the pictures and tables below it."""

    title: str
    words: str = ""
    parts: Sequence[Picture | Table] = field(default_factory=tuple)


def render(title: str, sections: Sequence[Section]) -> str:
    """Renders the page as HTML; all text is escaped, because names come from untrusted files."""
    return PAGE.substitute(
        title=escape(title),
        style=STYLE.read_text(encoding="utf-8"),
        sections="\n".join(map(_section, sections)),
    )


def _section(section: Section) -> str:
    words = f"<p>{escape(section.words)}</p>\n" if section.words else ""
    parts = "\n".join(_picture(part) if isinstance(part, Picture) else _table(part) for part in section.parts)
    return f"<section>\n<h2>{escape(section.title)}</h2>\n{words}{parts}\n</section>"


def _picture(picture: Picture) -> str:
    return f"<figure>\n{_drawing(picture)}\n<figcaption>{escape(picture.caption)}</figcaption>\n</figure>"


def _drawing(picture: Picture) -> str:
    if picture.svg:
        return picture.svg.replace("<svg", f'<svg role="group" aria-label="{escape(picture.alt)}"', 1)
    content = base64.b64encode(picture.path.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{content}" alt="{escape(picture.alt)}">'


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' if cell else "<td></td>" for cell in table.head)
    rows = "\n".join(
        f'<tr><th scope="row">{_cell(first)}</th>' + "".join(f"<td>{_cell(cell)}</td>" for cell in rest) + "</tr>"
        for first, *rest in table.rows
    )
    caption = f"<caption>{escape(table.caption)}</caption>"
    head = f"<thead><tr>{head}</tr></thead>\n" if any(table.head) else ""
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(table.caption)}">'
    return f"{region}\n<table>\n{caption}\n{head}<tbody>\n{rows}\n</tbody>\n</table>\n</div>"


def _cell(cell: str | Link) -> str:
    if isinstance(cell, Link):
        return f'<a id="{escape(cell.name)}" href="#{escape(cell.target)}">{escape(cell.words)}</a>'
    return escape(cell)
