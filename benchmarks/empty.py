"""The minimal cost of ASGI: an app that reads the request and answers with what is in a file named in `ANSWERS`.

At `/json-1` it reads the numbers of a request and writes those of the answer, as every server of JSON has to.
"""

import os
from pathlib import Path

import numpy as np
import orjson
from starlette.types import Message, Receive, Scope, Send

# "/json-1=FILE,/binary-1=FILE", by the names of bodies
ANSWERS: dict[str, tuple[Message, Message]] = {}
for pair in os.environ["ANSWERS"].split(","):
    path, _, file = pair.partition("=")
    body = Path(file).read_bytes()
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    ANSWERS[path] = head, {"type": "http.response.body", "body": body}

# The answer of `/json-1`, whose numbers are an array, as those of a model are.
DOCUMENT = orjson.loads(ANSWERS["/json-1"][1]["body"])
DOCUMENT["embeddings"] = np.array(DOCUMENT["embeddings"], np.float32)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    message = await receive()
    body = message["body"]
    while message["more_body"]:
        message = await receive()
        body += message["body"]
    head, answer = ANSWERS[scope["path"]]
    if scope["path"] == "/json-1":
        np.asarray(orjson.loads(body)["features"], np.float32)
        answer = {"type": "http.response.body", "body": orjson.dumps(DOCUMENT, option=orjson.OPT_SERIALIZE_NUMPY)}
    await send(head)
    await send(answer)
