"""The embedded Redis by itself; tests/e2e has it in the middle of the gateway's processes."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from conf.settings import Settings
from workers import embedded_redis as module
from workers.embedded_redis import NoRedis, embedded_redis


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="plm-") as name:
        yield Path(name)


class TestEmbeddedRedis:
    def test_answers_at_the_address_that_it_gives(self, folder: Path) -> None:
        with embedded_redis(folder) as url, redis.Redis.from_url(url) as client:
            assert client.ping()
            assert client.config_get("append*")["appendfsync"] == "always"
            assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"

    @pytest.mark.parametrize("name", ["with blank", "물음표?100%#", "long" * 30], ids=["blank", "signs", "long"])
    def test_any_folder_will_do(self, folder: Path, name: str) -> None:
        data = folder / name
        with embedded_redis(data) as url, redis.Redis.from_url(url) as client:
            client.set("kept", "1")
            settings = Settings.from_env({"JWT_SECRET": "s" * 32, "NODE_URLS": "http://n", "REDIS_URL": url})
            assert settings.redis_url == url

        assert list((data / "redis" / "appendonlydir").iterdir())

    def test_a_socket_and_a_lock_that_were_left_behind_do_not_matter(self, folder: Path) -> None:
        data = folder / "redis"
        data.mkdir()
        (data / "redis.sock").touch()
        (data / "lock").touch()
        (data / "redis.pid").write_text(str(os.getpid()))

        with embedded_redis(folder) as url, redis.Redis.from_url(url) as client:
            assert client.ping()

    def test_leaves_no_socket_and_no_process(self, folder: Path) -> None:
        with embedded_redis(folder) as url, redis.Redis.from_url(url) as client:
            pid = client.info("server")["process_id"]

        assert not Path(f"/proc/{pid}").exists()
        assert not (folder / "redis" / "redis.sock").exists()

    def test_a_server_that_can_not_start_is_told_with_its_own_words(self, folder: Path) -> None:
        data = folder / "redis"
        (data / "appendonlydir").mkdir(parents=True)
        (data / "appendonlydir" / "appendonly.aof.manifest").write_text("this is no manifest\n")

        started = time.monotonic()
        with pytest.raises(NoRedis, match=r"does not start: .*manifest"), embedded_redis(folder):
            pass

        assert time.monotonic() - started < 5

    def test_a_folder_that_can_not_be_made_is_told(self, folder: Path) -> None:
        (folder / "file").touch()

        with (
            pytest.raises(NoRedis, match=r"PLUMISE_DATA_DIR: .* can't be used: Not a directory"),
            embedded_redis(folder / "file"),
        ):
            pass

    def test_a_lock_that_can_not_be_opened_is_told(self, folder: Path) -> None:
        """As with one of another user; a folder refuses this test's user too, who may be root."""
        (folder / "redis" / "lock").mkdir(parents=True)

        with (
            pytest.raises(NoRedis, match=r"PLUMISE_DATA_DIR: .*/lock can't be used: Is a directory"),
            embedded_redis(folder),
        ):
            pass

    def test_the_server_itself_keeps_other_gateways_out_too(self, folder: Path) -> None:
        """A main that is killed may be started again before its server has ended."""
        with embedded_redis(folder) as url, redis.Redis.from_url(url) as client:
            pid = client.info("server")["process_id"]
            locks = {entry.resolve() for entry in Path(f"/proc/{pid}/fd").iterdir()}

        assert folder.resolve() / "redis" / "lock" in locks

    @pytest.mark.skipif(shutil.which("redis-server") is not None, reason="this machine has its own")
    def test_without_any_server_it_says_what_to_set(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "find_spec", lambda name: None)

        with pytest.raises(NoRedis, match="Set REDIS_URL"), embedded_redis(folder):
            pass
