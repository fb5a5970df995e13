"""/docs: Swagger UI from a package, so that neither the service nor the browser needs the internet."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

# Swagger UI starts by a script and styles within its page.
POLICY = "default-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"


def add_docs(app: FastAPI) -> None:
    """Serves the page and its files; all links are relative, so that they hold behind any prefix."""
    app.mount("/docs/assets", StaticFiles(packages=[("fastapi_swagger", "resources")]))
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=f"{app.title}: the API",
        swagger_js_url="docs/assets/swagger-ui-bundle.js",
        swagger_css_url="docs/assets/swagger-ui.css",
        swagger_favicon_url="docs/assets/favicon-32x32.png",
        swagger_ui_parameters={"tryItOutEnabled": True, "displayRequestDuration": True},
    )
    page.headers["Content-Security-Policy"] = POLICY

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return page
