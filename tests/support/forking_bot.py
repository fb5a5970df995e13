"""A bot that forks while its threads ask: `python -m tests.support.forking_bot URL`.

Its children and its own threads ask by one client, and each process by one stream, for embeddings whose values they
know. Prints how many answers were right, how many were not, and how many processes asked.
"""

import json
import os
import sys
import threading
from itertools import chain
from typing import Any

import numpy as np

from jepa_client import JepaClient
from tests.support.bundles import TinyModel

CHILDREN = 3
THREADS = 2
FRAMES = 20


class Frames:
    """Frames of one process, and their embeddings."""

    def __init__(self, seed: int) -> None:
        tiny = TinyModel()
        self._rows = tiny.rows(FRAMES, seed)
        self._expected = tiny.encode(self._rows)

    def right(self, embed: Any) -> int:
        """How many are answered with their own embedding."""
        pairs = zip(self._rows, self._expected, strict=True)
        return sum(bool(np.allclose(embed(row), expected, atol=1e-5)) for row, expected in pairs)


def main(url: str) -> None:
    own, *others = (Frames(seed) for seed in range(1 + CHILDREN))
    done, right, asked = threading.Event(), [0] * THREADS, [0] * THREADS
    with JepaClient(url, timeout=60) as client, client.stream() as stream:

        def play(thread: int) -> None:
            while not done.is_set():
                right[thread] += own.right(client.embed)
                asked[thread] += FRAMES

        threads = [threading.Thread(target=play, args=(thread,)) for thread in range(THREADS)]
        for thread in threads:
            thread.start()
        told = []
        for frames in others:
            receiving, sending = os.pipe()
            if os.fork() == 0:
                code = 1
                try:
                    os.write(sending, b"%d" % (frames.right(client.embed) + frames.right(stream.embed)))
                    code = 0
                finally:
                    os._exit(code)
            os.close(sending)
            told.append(receiving)
            right.append(own.right(stream.embed))
            asked.append(FRAMES)
        answers = [int(os.read(receiving, 64) or 0) for receiving in told]
        done.set()
        for thread in threads:
            thread.join()
    answered = sum(chain(answers, right))
    lost = 2 * FRAMES * CHILDREN + sum(asked) - answered
    print(json.dumps({"answered": answered, "lost": lost, "processes": 1 + CHILDREN}))


if __name__ == "__main__":
    main(sys.argv[1])
