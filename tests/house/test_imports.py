"""`import ridgeline` stays light, and the layer table covers what is there."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "duckdb",
    "fastapi",
    "huggingface_hub",
    "matplotlib",
    "numba",
    "onnx",
    "pandas",
    "ray",
    "rich",
    "scipy",
    "sklearn",
    "torch",
    "typer",
    "uvicorn",
}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds once it ran `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def test_import_ridgeline_loads_nothing_heavy() -> None:
    assert modules_after("import ridgeline") & HEAVY == set()


def test_public_names_exist() -> None:
    import ridgeline

    missing = [name for name in getattr(ridgeline, "__all__", ()) if not hasattr(ridgeline, name)]
    assert missing == []
    assert ridgeline.__version__
