"""The minimal cost of ASGI: an app that reads the request and answers with the bytes of a file named in `ANSWERS`."""

import os
from pathlib import Path

from starlette.types import Message, Receive, Scope, Send

# "/json=FILE,/binary=FILE"
ANSWERS: dict[str, tuple[Message, Message]] = {}
for pair in os.environ["ANSWERS"].split(","):
    path, _, file = pair.partition("=")
    body = Path(file).read_bytes()
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    ANSWERS[path] = head, {"type": "http.response.body", "body": body}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    while (await receive())["more_body"]:
        pass
    head, body = ANSWERS[scope["path"]]
    await send(head)
    await send(body)
