from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import HeadTooLarge
from app.server.framing import MAX_HEAD_BYTES, Head, Inbox, Unframed, parse

NEXT = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


def chunked(pieces: list[bytes], extension: bytes = b"", trailer: bytes = b"") -> bytes:
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    return chunks + b"0\r\n" + trailer + b"\r\n"


def post(line: bytes) -> bytes:
    return b"POST /embed HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n"


def read(inbox: Inbox, stream: bytes, cuts: list[int]) -> tuple[Head | None, bytes, bytes]:
    """The first head, all of its body, and what is left once it has come."""
    head, body = None, b""
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, stop in pairwise(edges):
        inbox.add(stream[start:stop])
        head = head or inbox.head()
        while head is not None and inbox.expects_body and (part := inbox.part()):
            body += part
    return head, body, inbox.rest()


pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
cuts = st.lists(st.integers(1, 400), max_size=12)


@given(pieces, st.sampled_from([b"", b";x=1", b" ; y"]), st.sampled_from([b"", b"X-Sum: 1\r\n"]), cuts)
def test_a_body_in_chunks_ends_where_its_last_chunk_does_however_it_is_cut(
    pieces: list[bytes], extension: bytes, trailer: bytes, cuts: list[int]
) -> None:
    body = chunked(pieces, extension, trailer)
    head, found, rest = read(Inbox(), post(b"Transfer-Encoding: chunked") + body + NEXT, cuts)
    assert head is not None
    assert head.content_length is None
    assert found == body
    assert rest == NEXT


@given(st.binary(max_size=60), cuts)
def test_a_body_of_a_known_length_ends_there_whatever_it_holds(body: bytes, cuts: list[int]) -> None:
    head, found, rest = read(Inbox(), post(b"Content-Length: %d" % len(body)) + body + NEXT, cuts)
    assert head is not None
    assert found == body
    assert rest == NEXT


def test_a_message_has_begun_from_its_first_byte_to_its_last() -> None:
    inbox = Inbox()
    assert inbox.began is None
    inbox.add(b"POST /embed HTTP/1.1\r\nContent-Length: 2\r\n\r\n"[:-1])
    assert inbox.head() is None
    assert inbox.began is not None
    inbox.add(b"\n1")
    assert inbox.head() is not None
    assert inbox.body() is None
    assert inbox.began is not None
    inbox.add(b"2")
    assert inbox.body() == b"12"
    assert inbox.began is None


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: x\n\n",
        post(b"Content-Length: 1\r\nTransfer-Encoding: chunked"),
        post(b"Content-Length: 1\r\nContent-Length: 2"),
        post(b"Content-Length: -1"),
        post(b"Content-Length: " + b"1" * 5000),
        post(b"Transfer-Encoding: gzip, chunked"),
        post(b"Host: y"),
        post(b"Host: x"),
        post(b"Transfer-Encoding: chunked") + b"zz\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_has_no_certain_end_or_host_is_no_message(sent: bytes) -> None:
    inbox = Inbox()
    inbox.add(sent)
    with pytest.raises(Unframed):  # noqa: PT012 (the head may be right, and its chunks not)
        assert inbox.head() is not None
        inbox.part()


@pytest.mark.parametrize("method", [b"GET", b"QUERY", b"M-SEARCH", b"PROPFIND"])
def test_every_method_that_the_parser_knows_is_one(method: bytes) -> None:
    inbox = Inbox()
    inbox.add(method[:2])
    assert inbox.head() is None
    inbox.add(method[2:] + b" /embed HTTP/1.1\r\nHost: x\r\n\r\n")
    head = inbox.head()
    assert head is not None
    assert head.method == method


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_that_is_too_large_is_refused_whether_it_is_whole_or_not(end: bytes) -> None:
    inbox = Inbox()
    inbox.add(b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES + end)
    with pytest.raises(HeadTooLarge):
        inbox.head()


def test_an_offer_of_another_protocol_is_taken_out_and_the_other_headers_stay() -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\nX-Kept: 1"
    head = parse(post(offer + b"\r\nContent-Length: 3"))
    assert head.without_upgrade() == post(b"X-Kept: 1\r\nContent-Length: 3")
    closing = parse(post(b"Connection: close, Upgrade\r\nUpgrade: h2c"))
    assert b"Connection: close" in closing.without_upgrade()
