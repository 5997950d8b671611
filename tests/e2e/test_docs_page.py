"""The page of the API document, from the true server: whole, of this server alone, and drawn by a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.client import Answer, call

BROWSER = shutil.which("chromium")


def get(url: str, path: str) -> Answer:
    """The answer to GET."""
    return call(url, "GET", path)


def linked(page: str) -> list[str]:
    """What a page loads."""
    return re.findall(r'(?:href|src)="([^"]+)"', page)


class TestPage:
    @pytest.mark.parametrize("path", ["/api/docs", "/api/docs/"])
    def test_it_is_html_with_or_without_a_slash(self, url: str, path: str) -> None:
        answer = get(url, path)

        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert b"Plumise Inference API" in answer.body

    def test_all_that_it_loads_is_here_and_typed_right(self, url: str) -> None:
        types = {}
        for path in linked(get(url, "/api/docs").body.decode()):
            answer = get(url, path)
            types[path.rpartition("/")[2].partition("?")[0]] = answer.headers["content-type"]

            assert (answer.status, len(answer.body) > 0) == (200, True), path

        assert types == {
            "swagger-ui.css": "text/css; charset=utf-8",
            "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
            "docs.js": "text/javascript; charset=utf-8",
            "favicon-32x32.png": "image/png",
        }

    def test_its_files_may_be_kept_for_long_since_their_address_names_their_content(self, url: str) -> None:
        for path in linked(get(url, "/api/docs").body.decode()):
            assert re.search(r"\?v=[0-9a-f]{12}$", path)
            assert "immutable" in get(url, path).headers["cache-control"]

    def test_it_obeys_the_security_policy_of_its_own_answer(self, url: str) -> None:
        """No script or style in the page itself, nothing from another host."""
        answer = get(url, "/api/docs")
        page = answer.body.decode()

        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert re.findall(r"<script[^>]*>([^<]+)", page) == []
        assert "<style" not in page
        assert all(path.startswith("/api/docs/") for path in linked(page))

    def test_the_validator_of_strangers_is_off(self, url: str) -> None:
        assert b"validatorUrl: null" in get(url, "/api/docs/assets/docs.js").body

    @pytest.mark.parametrize("name", ["nothing.js", "..%2fdocs.py", "..", "%2e%2e%2fdocs.html", "swagger-ui.css.map"])
    def test_no_other_file_is_served(self, url: str, name: str) -> None:
        assert get(url, f"/api/docs/assets/{name}").status == 404

    @pytest.mark.parametrize("path", ["/api/docs", "/api/docs/openapi.json", "/api/docs/assets/docs.js"])
    def test_head_answers_without_a_body(self, url: str, path: str) -> None:
        answer = call(url, "HEAD", path)

        assert (answer.status, answer.body) == (200, b"")

    def test_the_document_is_json(self, url: str) -> None:
        answer = get(url, "/api/docs/openapi.json")

        assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "application/json")
        assert answer.json()["info"]["title"] == "Plumise Inference API"


@pytest.mark.long
@pytest.mark.skipif(BROWSER is None, reason="chromium is not installed")
def test_a_browser_without_internet_draws_every_operation(url: str, tmp_path: Path) -> None:
    assert BROWSER is not None
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--virtual-time-budget=15000"]
    run = subprocess.run(
        [*command, "--dump-dom", f"{url}/api/docs"], capture_output=True, text=True, timeout=60, check=True
    )
    paths = json.loads(get(url, "/api/docs/openapi.json").body)["paths"]
    ids = [operation["operationId"] for methods in paths.values() for operation in methods.values()]

    assert len(ids) > 20
    assert [name for name in ids if not re.search(rf'id="operations-[\w-]+-{name}"', run.stdout)] == []
    assert "Failed to load" not in run.stdout
