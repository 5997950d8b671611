"""The API document and its page: Swagger UI from the installed package, nothing from elsewhere, no inline script."""

from __future__ import annotations

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from sanic import Blueprint, HTTPResponse, Request
from sanic.exceptions import NotFound
from sanic.response import html, raw

from blueprints.api_document import encoded
from blueprints.routing import READ

bp = Blueprint("docs", url_prefix="/api/docs")

OWN = Path(__file__).parent / "static"
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".png": "image/png"}
# A file's address changes with its content, so that nobody ever has an old one.
LONG_CACHE = {"Cache-Control": "public, max-age=31536000, immutable"}


def _swagger_ui() -> Path:
    """The package's files; it is only located, since importing it would load a template engine."""
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise RuntimeError("swagger-ui-py is not installed: pip install -r requirements.txt")
    return Path(spec.origin).parent / "static"


def _assets() -> dict[str, bytes]:
    packaged = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    own = ("docs.js",)
    folder = _swagger_ui()
    return {name: (folder / name).read_bytes() for name in packaged} | {name: (OWN / name).read_bytes() for name in own}


def _page() -> str:
    page = (OWN / "docs.html").read_text("utf-8")
    for name, content in ASSETS.items():
        page = page.replace(f"/assets/{name}", f"/assets/{name}?v={sha256(content).hexdigest()[:12]}")
    return page


ASSETS = _assets()
PAGE = _page()
DOCUMENT = encoded()


@bp.route("/", methods=READ)
async def page(_: Request) -> HTTPResponse:
    """The page for people."""
    return html(PAGE)


@bp.route("/openapi.json", methods=READ)
async def openapi(_: Request) -> HTTPResponse:
    """The document for programs."""
    return raw(DOCUMENT, content_type="application/json")


@bp.route("/assets/<name:str>", methods=READ)
async def asset(_: Request, name: str) -> HTTPResponse:
    """One of a few known files."""
    if (content := ASSETS.get(name)) is None:
        raise NotFound
    return raw(content, headers=LONG_CACHE, content_type=TYPES[Path(name).suffix])
