"""An answer over HTTP, whose size is bounded."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

# 32,768 embeddings of 512 numbers.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_EXCERPT_CHARS = 200


class Answer(NamedTuple):
    # Without credentials.
    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes

    def document(self) -> dict[str, Any] | None:
        """The JSON object that the answer holds; None if it holds none."""
        document = parsed(self.content)
        return document if isinstance(document, dict) else None

    def excerpt(self) -> str:
        """The beginning of the text, on one line."""
        return shown(self.content[: 4 * MAX_EXCERPT_CHARS].decode(errors="replace"))


def shown(text: str) -> str:
    """The beginning of a stranger's text for a message: on one line, without what moves a terminal's cursor."""
    line = " ".join(text.split())[:MAX_EXCERPT_CHARS]
    return "".join(each if each.isprintable() else "\ufffd" for each in line)


def parsed(text: bytes | str) -> Any:
    """The JSON value in a text; None where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
