"""The documentation runs: every command and every Python block that a page shows works as written.

Where a page shows the output of a command, the output is compared too; `make regold` writes it anew.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
# A block that cannot run in a test says why on the line above it: <!-- not run: needs a GPU -->
SKIPPED = re.compile(r"<!-- not run: \S.*-->\s*\Z")


# Shown numbers have three digits; a prediction that moved by more than this is news that the page must tell.
SHOWN_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block that a reader would run."""

    page: str
    line: int
    language: str
    body: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """The blocks of one page that are meant to be run."""
    for match in FENCE.finditer(text):
        if match["language"] in {"console", "bash", "python"} and not SKIPPED.search(text, 0, match.start()):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(page=page, line=line, language=match["language"], body=match["body"])


def shown_output(block: Block) -> str:
    """What a console block shows below its only command; empty if it shows none or has several commands."""
    command, _, output = block.body.replace("\\\n", " ").partition("\n")
    several = any(line.startswith("$ ") for line in output.splitlines())
    return output if command.startswith("$ ridgeline ") and not several else ""


def commands_of(block: Block) -> list[list[str]]:
    """The `ridgeline` commands of a console or bash block; continued lines are joined, shown output is passed over."""
    joined = block.body.replace("\\\n", " ")
    prompt = "$ " if block.language == "console" else ""
    lines = [line.removeprefix(prompt) for line in joined.splitlines() if line.startswith(prompt + "ridgeline ")]
    return [shlex.split(line, comments=True) for line in lines]


def all_blocks() -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        if page.exists():
            found += blocks_of(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8"))
    return found


BLOCKS = all_blocks()
SHELL = [block for block in BLOCKS if block.language != "python" and commands_of(block)]
SHOWN = [block for block in SHELL if block.language == "console" and shown_output(block).strip()]
PYTHON = [block for block in BLOCKS if block.language == "python"]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with the examples in it, as a reader at the top of a clone would have them."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def printed_by(words: list[str]) -> str:
    """Standard output of one `ridgeline` command, as on a plain terminal."""
    start = [sys.executable, "-c", "from ridgeline.apps.cli import main; main()"]
    plain = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [*start, *words[1:]], capture_output=True, encoding="utf-8", env=plain, check=True, timeout=120
    )
    return done.stdout


def same_text(shown: str, printed: str) -> bool:
    """Whether two outputs say the same, whatever the width of their columns and rules."""
    ours, theirs = (re.findall(r"\d+(?:\.\d+)?|[^\W\d_]+", text.replace(",", "")) for text in (shown, printed))
    return len(ours) == len(theirs) and all(
        a == b or (a[0].isdigit() and b[0].isdigit() and math.isclose(float(a), float(b), rel_tol=SHOWN_TOLERANCE))
        for a, b in zip(ours, theirs, strict=True)
    )


def run_command(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Run one `ridgeline` command in this process; its exit code."""
    from ridgeline.apps.cli import main

    monkeypatch.setattr(sys, "argv", words)
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_shown_command_works(block: Block, reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in commands_of(block):
        assert run_command(words, monkeypatch) == 0, shlex.join(words)


@pytest.mark.parametrize("block", SHOWN, ids=str)
def test_shown_output_is_what_the_command_prints(block: Block, reader: Path) -> None:
    (words,) = commands_of(block)
    printed = "\n".join(line.rstrip() for line in printed_by(words).splitlines()).strip("\n") + "\n"
    if os.environ.get("RIDGELINE_REGOLD"):
        page = ROOT / block.page
        command = block.body[: block.body.replace("\\\n", "  ").index("\n") + 1]
        page.write_text(page.read_text(encoding="utf-8").replace(block.body, command + printed), encoding="utf-8")
        return
    assert same_text(shown_output(block), printed), f"`make regold` writes it anew; it printed:\n{printed}"


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_shown_python_works(block: Block, reader: Path) -> None:
    exec(compile(block.body, f"{block}", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_works(path: Path, reader: Path) -> None:
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), {"__name__": "__main__"})


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    listed = set(re.findall(r"[\w./-]+\.md", navigation))
    present = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert listed == present


def test_quality_page_links_only_to_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "quality.md").read_text(encoding="utf-8"))
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or (name and f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8"))
    ]
    assert named
    assert missing == []


def test_command_reader_joins_lines_and_passes_over_output() -> None:
    skipped = "<!-- not run: why -->\n```console\n$ ridgeline no\n```\n\n"
    shown = "```console\n$ ridgeline a \\\n    --b 'c d'\nridgeline out\n```\n"
    (block,) = blocks_of("page.md", skipped + shown)
    assert block.line == 6
    assert commands_of(block) == [["ridgeline", "a", "--b", "c d"]]


def test_same_text_sees_numbers_that_moved_and_words_that_changed() -> None:
    assert same_text("| TTFT | 1,000 ms |", "TTFT  1005 ms")
    assert not same_text("TTFT 1000 ms", "TTFT 1100 ms")
    assert not same_text("TTFT 1000 ms", "TTFT 1000 s")
    assert not same_text("TTFT 1000 ms", "TTFT 1000 ms TPOT")
