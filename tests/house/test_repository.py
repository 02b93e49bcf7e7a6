"""The repository as a whole: sizes of rooms, docstrings, changelog, nothing that belongs to one machine."""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "ridgeline"
SOURCES = sorted(SRC.rglob("*.py"))
PACKAGES = sorted(SRC.rglob("__init__.py"))

MODULE_LINES = 600  # a room that a reader can hold in mind; the aim is 400
FUNCTION_LINES = 80  # the aim is 40
PACKAGE_DOCSTRING_LINES = 20

# Spelled in pieces, so that this file does not offend itself.
HOMES = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)" + r"/[\w.]")
INDEX_HOSTS = re.compile(
    r"--(?:extra-)?index-url|--find-links|files\.python" + r"hosted\.org|artifactory|(?<!\w)file:///"
)


def tracked_files() -> list[Path]:
    """Files under version control; in an unpacked archive, everything but build products."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_file_names_a_machine_or_an_index_host() -> None:
    found = [
        f"{relative(path)}: {match.group()}"
        for path in tracked_files()
        for pattern in (HOMES, INDEX_HOSTS)
        if (match := pattern.search(text_of(path))) and path != Path(__file__)
    ]
    assert found == []


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_rooms_and_functions_stay_small(path: Path) -> None:
    text = text_of(path)
    assert len(text.splitlines()) <= MODULE_LINES
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES
    }
    assert long == {}


@pytest.mark.parametrize("path", PACKAGES, ids=relative)
def test_every_package_says_what_it_promises(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(text_of(path)))
    assert docstring, "a package needs a docstring: what it promises, what it does not know, which file to read first"
    assert len(docstring.splitlines()) <= PACKAGE_DOCSTRING_LINES


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for path in SOURCES}
    assert [relative(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_every_package_has_its_place_in_the_layer_table() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    layers = contracts["importlinter:contract:layers"]
    placed = set(re.findall(r"\w+", layers["layers"]))
    assert layers["exhaustive"] == "true"
    assert {path.parent.name for path in SRC.glob("*/__init__.py")} <= placed


def test_core_dependencies_are_six() -> None:
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    names = {re.split(r"[<>=!~\[ ]", requirement)[0] for requirement in project["dependencies"]}
    assert names == {"duckdb", "numpy", "pydantic", "pyyaml", "rich", "typer"}


def test_every_pin_is_exact() -> None:
    pins = [line for line in text_of(ROOT / "constraints.txt").splitlines() if line and not line.startswith("#")]
    assert len(pins) > 6
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+_-]*", pin)] == []


def test_changelog_has_a_place_for_the_next_change() -> None:
    assert re.search(r"^## \[?Unreleased\]?", text_of(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in text_of(ROOT / "README.md")
    assert re.search(r"^make check$", text_of(ROOT / ".ci" / "run"), flags=re.MULTILINE)
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", text_of(ROOT / "Makefile"), flags=re.MULTILINE)
    assert recipe is not None
    assert "$(MAKE) test" in recipe.group(1)
