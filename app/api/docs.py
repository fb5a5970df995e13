"""/docs: Swagger UI from a package, so that neither the service nor the browser needs the internet."""

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from app.api.dependencies import service_of

# Swagger UI starts by a script and styles within its page.
POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
# All links are relative, so that they hold behind any prefix.
PAGE = get_swagger_ui_html(
    openapi_url="openapi.json",
    title="jepa-serve: the API",
    swagger_js_url="docs/assets/swagger-ui-bundle.js",
    swagger_css_url="docs/assets/swagger-ui.css",
    swagger_favicon_url="docs/assets/favicon-32x32.png",
    swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
)
# Operations, by the end of their id, that no form can ask: one is a WebSocket.
WITHOUT_FORM = ("-stream",)
# Those that answer 403 unless JEPA_MODEL_CONTROL is set.
CONTROL = ("_load", "_unload")
ASSETS = StaticFiles(packages=[("fastapi_swagger", "resources")])

router = APIRouter(include_in_schema=False)


def _with_buttons(without: tuple[str, ...]) -> bytes:
    """The page, without a button *Execute* at operations whose ids end so."""
    buttons = ", ".join(f'[id^="operations-"][id$="{end}"] .execute-wrapper' for end in without)
    style = f"<style>{buttons} {{ display: none }}</style></head>"
    return bytes(PAGE.body).replace(b"</head>", style.encode())


PAGES = {True: _with_buttons(WITHOUT_FORM), False: _with_buttons(WITHOUT_FORM + CONTROL)}


@router.get("/docs")
async def docs(request: Request) -> Response:
    page = PAGES[service_of(request).settings.model_control]
    return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/assets/{name}")
async def assets(request: Request, name: str) -> Response:
    return await ASSETS.get_response(name, request.scope)


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    document, root = request.app.openapi(), request.scope.get("root_path", "")
    # A form of /docs and a generated client ask there; without a prefix they ask where the document came from.
    return JSONResponse(document | {"servers": [{"url": root}]} if root else document)
