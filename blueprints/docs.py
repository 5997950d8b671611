"""The API document."""

from sanic import Blueprint

bp = Blueprint("docs", url_prefix="/api/docs")
