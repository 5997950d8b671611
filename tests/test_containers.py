"""Dockerfile and docker-compose.yml, checked without a container engine, and against each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conf.settings import variables

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
SECRET = "a secret of more than thirty-two bytes"


def compose(*arguments: str, environ: Mapping[str, str], folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs the compose binary itself: the command that its package installs ends with 0 even when it failed."""
    spec = find_spec("compose")
    assert spec is not None
    assert spec.origin is not None
    binary = Path(spec.origin).with_name("docker-compose")
    command = [str(binary), "-f", str(ROOT / "docker-compose.yml"), "--project-directory", str(folder), *arguments]
    given = {"PATH": os.environ["PATH"], "HOME": str(folder), **environ}  # noqa: TID251 - to find the client's files
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The services as compose understands them, in a folder whose .env is the example with a secret."""
    folder = tmp_path_factory.mktemp("compose")
    example = (ROOT / ".env.example").read_text("utf-8")
    (folder / ".env").write_text(example.replace("JWT_SECRET=\n", f"JWT_SECRET={SECRET}\n", 1))
    shown = compose("config", "--format", "json", environ={}, folder=folder)
    assert shown.returncode == 0, shown.stderr
    services: dict[str, Any] = json.loads(shown.stdout)["services"]
    return services


def instruction(word: str) -> str:
    """The last instruction of that kind in the Dockerfile, its continuation lines joined."""
    found = re.findall(rf"^{word} (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)
    assert found, f"the Dockerfile has no {word}"
    return str(found[-1])


class TestDockerfile:
    def test_hadolint_has_nothing_to_say(self) -> None:
        hadolint = Path(sys.executable).with_name("hadolint")

        said = subprocess.run(
            [str(hadolint), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False
        )

        assert (said.returncode, said.stdout) == (0, "")

    def test_the_gateway_is_the_same_command_as_make_serve(self) -> None:
        assert json.loads(instruction("CMD")) == ["python", "app.py"]
        assert "$(PY) app.py" in (ROOT / "Makefile").read_text("utf-8")

    def test_it_listens_where_the_settings_say(self) -> None:
        port = next(about.default for _, about in variables() if about.name == "PORT")

        assert instruction("EXPOSE") == port
        assert f"or {port}}}/health" in instruction("HEALTHCHECK")

    def test_it_runs_as_a_user_without_rights(self) -> None:
        user = instruction("USER")

        assert int(user) >= 1000
        assert f"--uid {user} " in DOCKERFILE

    def test_it_takes_the_pinned_packages(self) -> None:
        assert "--require-hashes -r /tmp/requirements.txt" in DOCKERFILE

    def test_it_copies_every_room_of_the_gateway_and_the_engine_may_see_them(self) -> None:
        copied = set(re.findall(r"^COPY (?!--from)(\S+)", DOCKERFILE, re.MULTILINE))
        allowed = set(re.findall(r"^!(\S+?)/?$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))

        assert (
            copied == allowed == {"requirements.txt", "app.py", "preload.py", "conf", "core", "blueprints", "workers"}
        )

    def test_its_health_check_is_a_program_that_python_can_read(self) -> None:
        program = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])[2]

        compile(program, "HEALTHCHECK", "exec")


class TestCompose:
    def test_it_is_valid_with_the_example_settings_and_a_secret(self, services: dict[str, Any]) -> None:
        assert set(services) == {"gateway", "redis"}
        assert services["gateway"]["environment"]["JWT_SECRET"] == SECRET

    def test_it_refuses_to_start_without_a_secret(self, tmp_path: Path) -> None:
        refused = compose("config", "-q", environ={}, folder=tmp_path)

        assert refused.returncode != 0
        assert "JWT_SECRET is not set" in refused.stderr

    def test_it_sets_only_variables_that_the_gateway_has(self, services: dict[str, Any]) -> None:
        assert set(services["gateway"]["environment"]) <= {about.name for _, about in variables()}

    def test_it_publishes_the_port_on_which_the_gateway_listens(self, services: dict[str, Any]) -> None:
        (published,) = services["gateway"]["ports"]

        assert str(published["target"]) == services["gateway"]["environment"]["PORT"] == instruction("EXPOSE")

    def test_another_port_is_published_when_the_operator_wants_one(self, tmp_path: Path) -> None:
        shown = compose("config", "--format", "json", environ={"JWT_SECRET": SECRET, "PORT": "8080"}, folder=tmp_path)

        (published,) = json.loads(shown.stdout)["services"]["gateway"]["ports"]
        assert (published["published"], published["target"]) == ("8080", 3200)

    def test_it_leaves_command_user_and_health_check_to_the_image(self, services: dict[str, Any]) -> None:
        gateway = services["gateway"]

        assert gateway.get("command") is None
        assert "user" not in gateway
        assert "healthcheck" not in gateway

    def test_the_gateway_keeps_its_data_where_the_image_lets_it_write(self, services: dict[str, Any]) -> None:
        (volume,) = services["gateway"]["volumes"]

        assert volume["target"] == services["gateway"]["environment"]["PLUMISE_DATA_DIR"] == instruction("VOLUME")
        assert f"PLUMISE_DATA_DIR={volume['target']}" in DOCKERFILE

    def test_redis_writes_every_change_to_the_disk_first(self, services: dict[str, Any]) -> None:
        command = services["redis"]["command"]

        assert command[command.index("--appendonly") + 1] == "yes"
        assert command[command.index("--appendfsync") + 1] == "always"
        assert services["redis"]["volumes"][0]["target"] == "/data"

    def test_the_gateway_waits_for_a_healthy_redis(self, services: dict[str, Any]) -> None:
        assert services["gateway"]["depends_on"]["redis"]["condition"] == "service_healthy"
        assert services["redis"]["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
        assert services["gateway"]["environment"]["REDIS_URL"] == "redis://redis:6379/0"

    def test_the_engine_waits_longer_than_the_gateway_drains(self, services: dict[str, Any]) -> None:
        drain = next(about for _, about in variables() if about.name == "SHUTDOWN_TIMEOUT")
        grace = re.fullmatch(r"(\d+)s", services["gateway"]["stop_grace_period"])

        assert grace is not None
        assert drain.default is not None
        assert int(grace[1]) > drain.parse(drain.default)
