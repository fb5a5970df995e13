import re
from html.parser import HTMLParser

from cli.report.page import Picture, Section, Table, render

BAD = "<script>alert('\"&')</script>"
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects a page's elements, text and attributes, and fails if tags do not match."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.attributes, self.open = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [value for _, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_names_of_unknown_origin_are_words_and_never_markup(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    parts = [Picture(picture, BAD, BAD), Table(BAD, ("", BAD), [(BAD, BAD)])]
    page = Reader(render(BAD, [Section(BAD, BAD, parts)]))
    assert "script" not in page.tags
    # The title twice, section and text, the picture's caption, the table's caption, and cells.
    assert page.words.count(BAD) == 2 + 2 + 1 + 1 + 3
    assert BAD in page.attributes


def test_a_page_needs_nothing_beside_it_and_can_be_read_aloud(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    text = render("Model", [Section("One", parts=[Picture(picture, "alt", "caption")]), Section("Two", "words")])
    assert re.findall(r'(?:src|href)="(.{10})', text) == ["data:image"]
    page = Reader(text)
    assert page.tags.count("h1") == 1
    assert page.tags.count("h2") == 2
    assert page.tags[:2] == ["html", "head"]
    assert "alt" in page.attributes
    assert '<html lang="en">' in text


def test_cells_know_their_heading():
    text = render(
        "Model", [Section("One", parts=[Table("t", ("", "std"), [("raw", "0.1")]), Table("u", ("", ""), [("a", "b")])])]
    )
    assert '<tr><td></td><th scope="col">std</th></tr>' in text
    assert '<tr><th scope="row">raw</th><td>0.1</td></tr>' in text
    assert text.count("<thead>") == 1
