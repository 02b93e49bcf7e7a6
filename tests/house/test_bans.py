"""What the source never does: run code from data, swallow errors, depend on global randomness or the wall clock."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "ridgeline"
SOURCES = sorted(SRC.rglob("*.py"))

BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "random"}
BANNED_BUILTINS = {"eval", "exec", "compile", "__import__"}
BANNED_CALLS = {
    "numpy.random.seed",
    "numpy.random.rand",
    "numpy.random.randn",
    "numpy.random.randint",
    "numpy.random.random",
    "numpy.random.choice",
    "os.popen",
    "os.system",
    "torch.load",
    "yaml.full_load",
    "yaml.unsafe_load",
}
# The strict loader is the one door for outside files; an ordinary parser lets in duplicate keys, NaN and `no` = False.
LOADER_CALLS = {"yaml.load", "yaml.load_all", "yaml.safe_load", "yaml.safe_load_all", "json.load", "json.loads"}
LOADER_ROOM = {"core/files.py", "core/_strict.py"}
# These read an index that they generated themselves, on every start; tests there compare it with the files.
LOADER_ROOM |= {"hardware/index.py", "workloads/cards.py"}
# Imports the modules that its own package lists; what a user types only chooses among them.
SHELVES = {"studies/frame/shelf.py"}
BANNED_KEYWORDS = {"allow_pickle": True, "shell": True}
# Packages whose numbers must be the same tomorrow.
PURE = {"core", "workloads", "hardware", "costs", "plans", "steps", "sim", "serving", "training", "cloud", "impact"}
CLOCK_CALLS = {"time.time", "time.time_ns", "datetime.datetime.now", "datetime.datetime.today", "datetime.date.today"}


def dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name that `node` refers to, through the module's imports; empty when it is no plain name."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        parent = dotted(node.value, names)
        return f"{parent}.{node.attr}" if parent else ""
    return ""


def imported_names(tree: ast.AST) -> dict[str, str]:
    """Local name -> what it stands for."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def import_offences(node: ast.AST) -> Iterator[str]:
    """Modules that must not be imported at all."""
    if isinstance(node, ast.Import):
        found = {alias.name.partition(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
        found = {(node.module or "").partition(".")[0]}
    else:
        return
    for name in sorted(found & BANNED_MODULES):
        yield f"imports {name}"


def call_offences(node: ast.Call, names: dict[str, str], room: str) -> Iterator[str]:
    """Calls and keywords that must not appear."""
    called = dotted(node.func, names)
    if called in BANNED_BUILTINS | BANNED_CALLS:
        yield f"calls {called}"
    if called in LOADER_CALLS and room not in LOADER_ROOM:
        yield f"calls {called}: outside files go through ridgeline.core.files"
    if called in CLOCK_CALLS and room.partition("/")[0] in PURE:
        yield f"calls {called}: a result must not depend on the clock"
    computed = not (node.args and isinstance(node.args[0], ast.Constant)) and room not in SHELVES
    if called in {"importlib.import_module", "importlib.util.spec_from_file_location"} and computed:
        yield f"calls {called} with a computed name"
    for keyword in node.keywords:
        if keyword.arg == "trust_remote_code":
            yield "passes trust_remote_code"
        if keyword.arg in BANNED_KEYWORDS and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value):
            yield f"passes {keyword.arg}"


def handler_offences(node: ast.ExceptHandler) -> Iterator[str]:
    """A handler that catches everything and says nothing."""
    caught = node.type.id if isinstance(node.type, ast.Name) else None
    silent = all(isinstance(statement, ast.Pass | ast.Continue) for statement in node.body)
    if node.type is None:
        yield "has a bare except"
    elif caught in {"Exception", "BaseException"} and silent:
        yield f"swallows {caught}"


def offences(source: str, room: str) -> list[str]:
    """Every offence of one module, as `room:line: what`."""
    tree = ast.parse(source)
    names = imported_names(tree)
    found: list[str] = []
    for node in ast.walk(tree):
        lines = [*import_offences(node)]
        if isinstance(node, ast.Call):
            lines += call_offences(node, names, room)
        elif isinstance(node, ast.ExceptHandler):
            lines += handler_offences(node)
        found += [f"{room}:{getattr(node, 'lineno', 0)}: {line}" for line in lines]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(SRC)))
def test_source_keeps_the_ban_list(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8"), path.relative_to(SRC).as_posix()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "import random",
        "eval('1')",
        "exec('1')",
        "import yaml\nyaml.safe_load('a: 1')",
        "from yaml import safe_load as read\nread('a: 1')",
        "import json\njson.loads('{}')",
        "import numpy as np\nnp.load('x.npz', allow_pickle=True)",
        "import numpy as np\nnp.load('x.npz', allow_pickle=choice)",
        "import numpy as np\nnp.random.seed(1)",
        "import subprocess\nsubprocess.run('ls', shell=True)",
        "import os\nos.system('ls')",
        "import torch\ntorch.load('x')",
        "load(trust_remote_code=False)",
        "import time\ntime.time()",
        "from importlib import import_module\nimport_module(name)",
        "try:\n    1\nexcept:\n    raise",
        "try:\n    1\nexcept Exception:\n    pass",
    ],
)
def test_ban_list_bites(source: str) -> None:
    assert offences(source, "costs/example.py")


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load('x.npz', allow_pickle=False)",
        "import numpy as np\nnp.random.default_rng(1)",
        "import time\ntime.perf_counter()",
        "import re\nre.compile('x')",
        "try:\n    1\nexcept ValueError:\n    pass",
    ],
)
def test_ban_list_lets_ordinary_code_be(source: str) -> None:
    assert offences(source, "costs/example.py") == []
