"""What people read is true: settings, commands, links, and both languages alike."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values

from conf.settings import InvalidSettings, Settings, variables

ROOT = Path(__file__).resolve().parent.parent
NOT_OURS = {"node_modules", "out", "data", "__pycache__"}
READMES = ("README.md", "README.ko.md")
SECRET = "a secret of more than thirty-two bytes"
NAMES = [about.name for _, about in variables()]

# Written so that this file itself does not hold what it looks for.
REGISTRIES = re.compile(r"py[p]i\.org|python[h]osted\.org|npm[j]s\.(?:org|com)|yarn[p]kg\.com|proxy\.golan[g]\.org")
MACHINE_PATHS = re.compile(r"(?<![\w.*-])/(?:home|root|work|Users)/\w|file:/[/]|(?<!\w)[C]:\\")


def read(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text("utf-8")


def files(suffix: str = "") -> list[Path]:
    """The files of the repository; what tools and runs leave behind is not counted."""
    return [path for path in _walk(ROOT) if path.name.endswith(suffix)]


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in NOT_OURS and (path.name == ".ci" or not path.name.startswith(".")):
                yield from _walk(path)
        elif path.name != ".env" and not path.name.endswith(".log"):
            yield path


def blocks(markdown: str, language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)


def prose(markdown: str) -> str:
    """The text without its fenced blocks, where a # is a comment and not a heading."""
    return re.sub(r"^```.*?^```$", "", markdown, flags=re.MULTILINE | re.DOTALL)


def headings(markdown: str) -> list[str]:
    """All headings, with their level."""
    return re.findall(r"^(#+ .+)$", prose(markdown), re.MULTILINE)


def table(markdown: str) -> dict[str, str]:
    """The settings table: variable → default, as it is written."""
    return dict(re.findall(r"^\| `([A-Z_]+)` \| (\S+) \| .+ \|$", markdown, re.MULTILINE))


class TestEnvExample:
    EXAMPLE = read(".env.example")
    LINES = re.findall(r"^(# )?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)

    def test_it_has_every_variable_in_the_order_of_the_settings(self) -> None:
        assert [name for _, name, _ in self.LINES] == NAMES

    def test_a_default_is_shown_as_it_is(self) -> None:
        shown = {name: value for _, name, value in self.LINES}

        for _, about in variables():
            if about.default is not None:
                assert shown[about.name] == about.default, about.name

    def test_only_what_must_be_set_is_not_commented_out(self) -> None:
        assert [name for commented, name, _ in self.LINES if not commented] == ["JWT_SECRET", "ORACLE_API_URL"]

    def test_every_variable_has_a_comment_of_its_own(self) -> None:
        explained = re.findall(r"^# .+\n(?:# )?([A-Z_]+)=", self.EXAMPLE, re.MULTILINE)

        assert explained == NAMES

    def test_a_copy_of_it_with_a_secret_starts_the_gateway(self) -> None:
        copied = dotenv_values(stream=StringIO(self.EXAMPLE))

        settings = Settings.from_env({**copied, "JWT_SECRET": SECRET})

        assert settings == Settings.from_env({"JWT_SECRET": SECRET, "ORACLE_API_URL": "http://localhost:15481"})

    def test_a_bare_copy_of_it_only_lacks_the_secret(self) -> None:
        with pytest.raises(InvalidSettings) as refused:
            Settings.from_env(dotenv_values(stream=StringIO(self.EXAMPLE)))

        assert [problem.partition(":")[0] for problem in refused.value.problems] == ["JWT_SECRET"]

    def test_every_value_in_it_can_be_used(self) -> None:
        Settings.from_env({**{name: value for _, name, value in self.LINES}, "JWT_SECRET": SECRET})


@pytest.mark.parametrize("name", READMES)
class TestReadme:
    def test_its_table_has_every_variable_in_the_order_of_the_settings(self, name: str) -> None:
        assert list(table(read(name))) == NAMES

    def test_its_table_has_the_true_defaults(self, name: str) -> None:
        true = {about.name: "--" if about.default is None else f"`{about.default}`" for _, about in variables()}

        assert table(read(name)) == true

    def test_its_quick_start_is_two_commands(self, name: str) -> None:
        first = blocks(read(name), "bash")[0]

        assert [line.partition("#")[0].strip() for line in first.splitlines()] == ["make run", "make test"]

    def test_the_examples_that_it_runs_exist(self, name: str) -> None:
        modules = set(re.findall(r"-m examples\.(\w+)", read(name)))

        assert modules == {"chat", "sign_in", "openai_chat"}
        assert all((ROOT / "examples" / f"{module}.py").exists() for module in modules)

    def test_the_curl_command_is_the_one_that_the_demo_prints(self, name: str) -> None:
        body = re.search(r"-d '(\{\"model\".*?\})'", read(name))

        assert body is not None
        assert body[1].replace("HuggingFaceTB/SmolLM2-135M-Instruct", "{model}") in read("examples/demo.py").replace(
            "{{", "{"
        ).replace("}}", "}")

    def test_it_links_to_the_other_language(self, name: str) -> None:
        assert "**[English](README.md) | [한국어](README.ko.md)**" in read(name)


class TestBothLanguages:
    def test_have_the_same_headings(self) -> None:
        english, korean = ([heading.split(" ")[0] for heading in headings(read(name))] for name in READMES)

        assert english == korean

    def test_show_the_same_code(self) -> None:
        for language in ("javascript", "python", "json"):
            english, korean = (
                [re.sub(r"//.*", "", block) for block in blocks(read(name), language)] for name in READMES
            )

            assert english == korean

    def test_list_the_same_endpoints(self) -> None:
        english, korean = (
            re.findall(r"^(?:GET|POST) +[/\w:. -]+?(?= - )", read(name), re.MULTILINE) for name in READMES
        )

        assert english == korean
        assert len(english) > 15

    def test_link_to_the_same_places(self) -> None:
        english, korean = (set(re.findall(r"\]\(([^)]+)\)", read(name))) for name in READMES)

        assert english == korean


class TestEveryDocument:
    def test_a_make_target_that_is_named_exists(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))

        for path in files(".md"):
            markdown = path.read_text("utf-8")
            named = set(re.findall(r"`(?:PORT=\d+ )?make ([a-z-]+)`", markdown))
            named |= {
                target
                for block in blocks(markdown, "bash")
                for target in re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)
            }
            assert named <= targets, path

    def test_a_relative_link_leads_somewhere(self) -> None:
        for path in files(".md"):
            for link in re.findall(r"\]\((?!https?:|mailto:)([^)]+)\)", path.read_text("utf-8")):
                file, _, anchor = link.partition("#")
                target = (path.parent / file).resolve() if file else path
                assert target.exists(), f"{path}: {link}"
                if anchor:
                    assert anchor in _anchors(target), f"{path}: {link}"

    def test_decisions_have_one_form(self) -> None:
        decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))

        for number, path in enumerate(decisions, 1):
            first, *rest = headings(path.read_text("utf-8"))
            assert path.name.startswith(f"{number:04}-")
            assert first.startswith(f"# {number}. ")
            assert rest == ["## Context", "## Decision", "## Consequences"]

    def test_no_file_names_a_package_registry_or_a_path_of_somebodys_machine(self) -> None:
        for path in files():
            text = path.read_bytes().decode("utf-8", "replace")
            assert not REGISTRIES.search(text), path
            assert not (found := MACHINE_PATHS.search(text)), f"{path}: {found}"

    def test_the_pattern_for_registries_and_paths_finds_them(self) -> None:
        hosts = ("py" + "pi.org", "registry.npm" + "js.org", "files.python" + "hosted.org")
        paths = ("cd /" + "home/ann/plumise", "PATH=/" + "root/bin", "(/" + "work/main)")

        assert all(REGISTRIES.search(f"https://{host}/simple") for host in hosts)
        assert all(MACHINE_PATHS.search(path) for path in paths)
        assert not MACHINE_PATHS.search("GET /api/v1/work/x and https://host/home/x")


def _anchors(markdown: Path) -> set[str]:
    """The names by which headings can be linked to, as code hosts make them."""
    words = [heading.lstrip("# ").lower() for heading in headings(markdown.read_text("utf-8"))]
    return {re.sub(r"[^\w\- ]", "", word).replace(" ", "-") for word in words}
