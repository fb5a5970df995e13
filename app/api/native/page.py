"""The page at `/`: one HTML file with its style and its ES modules, which use the public API alone.

Files are read once, when the application is made. Their addresses hold a hash of them all, so a browser keeps them for
good and asks for the HTML file alone again, which it is answered by 304.
"""

import gzip
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app import __version__
from app.api.headers import JSON
from app.rows import json_bytes

FOLDER = Path(__file__).parents[1] / "page"
INDEX = "index.html"
# What the HTML file has in place of the folder that the other files are in.
ASSETS = "{assets}"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
FOR_GOOD = {"Cache-Control": "public, max-age=31536000, immutable"}
LINKS = ("models", "docs", "openapi.json", "metrics", "readyz", "embed", "predict", "forecast", "loss", "stream", "v2")


class Page:
    """The files of the page, and the routes that answer with them."""

    def __init__(self) -> None:
        contents = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}
        digest = sha256()
        for name, content in contents.items():
            digest.update(b"%s %d\n" % (name.encode(), len(content)) + content)
        self._version = digest.hexdigest()[:16]
        self._index = contents.pop(INDEX).replace(ASSETS.encode(), f"page/{self._version}".encode())
        # As they are, and compressed.
        self._assets = {
            f"/page/{self._version}/{name}": (content, gzip.compress(content, mtime=0))
            for name, content in contents.items()
        }

    @property
    def paths(self) -> frozenset[str]:
        """Where its files are. They hold no secret, and a browser has no key before the page has asked for one."""
        return frozenset(("/", *self._assets))

    @property
    def router(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/", self._root, methods=["GET"])
        router.add_api_route("/page/{version}/{name}", self._asset, methods=["GET"])
        return router

    async def _root(self, request: Request) -> Response:
        """The page for browsers, and what the service is for a client that would rather have JSON."""
        vary = {"Vary": "Accept"}
        if prefers_json(request.headers.get("accept", "*/*")):
            root = request.scope.get("root_path", "")
            links = {name.partition(".")[0]: f"{root}/{name}" for name in LINKS}
            return Response(
                json_bytes({"name": "jepa-serve", "version": __version__, "links": links}),
                headers=vary,
                media_type=JSON.decode(),
            )
        tag = {"ETag": f'"{self._version}"', "Cache-Control": "no-cache"}
        if self._version in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=HEADERS | tag | vary)
        return Response(self._index, headers=HEADERS | tag | vary, media_type=MEDIA_TYPES[".html"])

    async def _asset(self, request: Request, version: str, name: str) -> Response:
        path = f"/page/{version}/{name}"
        if path not in self._assets:
            raise HTTPException(404)
        content, compressed = self._assets[path]
        headers = HEADERS | FOR_GOOD | {"Vary": "Accept-Encoding"}
        if "gzip" in _weights(request.headers.get("accept-encoding", "")):
            content, headers = compressed, headers | {"Content-Encoding": "gzip"}
        return Response(content, headers=headers, media_type=MEDIA_TYPES[Path(path).suffix])


def prefers_json(accept: str) -> bool:
    """Whether an Accept header (RFC 9110, 12.5.1) ranks JSON above HTML, or names it where both weigh the same."""
    weights = _weights(accept)

    def rank(kind: str, subtype: str) -> tuple[float, int]:
        # The range that fits most closely counts.
        ranges = f"{kind}/{subtype}", f"{kind}/*", "*/*"
        return next(((weights[each], -i) for i, each in enumerate(ranges) if each in weights), (0.0, 0))

    return rank("application", "json") > rank("text", "html")


def _weights(header: str) -> dict[str, float]:
    """What a client accepts, with its weights: 1 where none is given. What it gives 0 or no number is left out."""
    found = {}
    for each in header.split(","):
        kind, *parameters = (part.strip().lower() for part in each.split(";"))
        weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
        with suppress(ValueError):
            if float(weight) > 0:
                found[kind] = float(weight)
    return found
