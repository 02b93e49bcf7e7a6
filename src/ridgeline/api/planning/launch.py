"""Deployments as launch files and back: `rl.launch_files`, `rl.read_launch`, and the case that a launch stands for."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ridgeline.api.predictions.predict import CaseError, Prediction, case_values
from ridgeline.api.tables.columns import DEGREES
from ridgeline.api.tables.intake import intake, wanted
from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.core.files import write_atomic
from ridgeline.core.tables import from_mapping
from ridgeline.serving.deployment import Outcome
from ridgeline.serving.launch import LaunchFiles, Reading, launch_of, read_launch, target_names, write_launch

__all__ = ["LaunchFiles", "Reading", "launch_case", "launch_files", "read_launch", "target_names", "write_files"]

_ANY_LOAD = {"isl": 1.0, "osl": 1.0}
"""A deployment is launched without a load; these stand where a case gives none."""

_RESULTS = frozenset({*Outcome.names(), "bound", "regime", "error"})
"""Columns that a row of results has besides its case."""

_ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm"}


def launch_files(
    case: Prediction | Mapping[str, Any], target: str = "", *, context_tokens: int = 0, host_chips: int = 0
) -> LaunchFiles:
    """Files that launch a deployment, by name; a mapping with `notes` on what the files cannot say.

    Args:
        case: columns of `predict serving` (with `on` and `plan`, if you like), or a prediction; the load may be absent.
        target: vllm, sglang, trtllm, kubernetes, llm-d or dynamo; "" is the command line of the case's runtime.
        context_tokens: longest request that is served; 0 leaves it to the model.
        host_chips: chips per host; 0 asks the catalogue.
    Raises:
        UnknownNameError: a column, name or target, with the nearest. CaseError, PlanError: no such deployment.

    Example: `rl.launch_files({"model": "Qwen/Qwen3-32B", "on": "8x h200-sxm", "tp": 4}, "kubernetes")["manifest.yaml"]`
    """
    given = dict(case.case) if isinstance(case, Prediction) else dict(case)
    engine = _ENGINES.get(target.casefold())
    if engine and not given.get("runtime"):
        given["runtime"] = engine
    row = complete_case(given)
    launch = launch_of(row, context_tokens=context_tokens, host_chips=host_chips)
    return write_launch(launch, target or launch.runtime)


def launch_case(source: str | os.PathLike[str] | Reading, *, on: str = "", given: Mapping[str, Any]) -> dict[str, Any]:
    """A case from a launch and what else is given; what is given wins, and `on` names the machines instead of labels.

    A degree, a format or a limit that is given where the launch says otherwise is taken as given: that is how one asks
    what another degree would do.
    """
    reading = source if isinstance(source, Reading) else read_launch(source)
    case: dict[str, Any] = {**reading.case, **{name: value for name, value in given.items() if value is not None}}
    if on:
        case = {name: value for name, value in case.items() if name not in ("chip", "node") or name in given}
    changed = {name for name in DEGREES if name in given and given[name] is not None}
    if changed - {"ep", "moe_tp"}:
        # Experts were cut for the launch's own degrees.
        case = {name: value for name, value in case.items() if name not in ("ep", "moe_tp") or name in given}
    return case


def write_files(files: LaunchFiles, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a folder of launch files whole or not at all; the folder must be new or empty. Returns the files.

    Raises FileFormatError: it holds something, its parent is missing, or the disk refuses.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileFormatError("the folder holds something", at=str(folder), fix="name a new or an empty folder")
    if not target.parent.is_dir():
        raise FileFormatError("no such folder", at=str(target.parent), fix="create it first")
    temporary = target.parent / f".{target.name[:40]}.{secrets.token_hex(6)}.tmp"
    try:
        temporary.mkdir()
        for name, text in files.items():
            write_atomic(temporary / name, text)
            if name.endswith(".sh"):
                (temporary / name).chmod(0o755)
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        raise FileFormatError(f"cannot write the folder: {reason}", at=str(folder), fix="write elsewhere") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [target / name for name in files]


def _absent(value: Any) -> bool:
    """Whether a cell says nothing."""
    return value is None or value == "" or (isinstance(value, float) and value != value)


def complete_case(given: Mapping[str, Any]) -> dict[str, float | str]:
    """Every column of one deployment."""
    case = {name: value for name, value in given.items() if name not in _RESULTS and not _absent(value)}
    on, plan = str(case.pop("on", "")), str(case.pop("plan", ""))
    values = {**_ANY_LOAD, **case_values("serving", on=on, plan=plan, case=case)}
    table = from_mapping({name: [value] for name, value in values.items()}, columns=wanted("serving"))
    cases, problems = intake("serving", table)
    (message,) = problems.column()
    if message:
        raise CaseError(message, at="deploy")
    row: dict[str, float | str] = {name: float(cases.number(name)[0]) for name in cases.numbers}
    row |= {name: cases.text(name, 0) for name in cases.texts}
    if not row["model"] or not row["chip"]:
        raise SpecError("a deployment has a model and a chip", at="deploy", fix='give --model and --on "8x h100-sxm"')
    return row
