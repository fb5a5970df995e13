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
        return " ".join(self.content[: 4 * MAX_EXCERPT_CHARS].decode(errors="replace").split())[:MAX_EXCERPT_CHARS]


def parsed(text: bytes | str) -> Any:
    """The JSON value in a text; None where there is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
