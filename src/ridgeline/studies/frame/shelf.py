"""Where studies are found: every module of `ridgeline.studies` that holds a `STUDY`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

import ridgeline.studies
from ridgeline.core.errors import UnknownNameError, did_you_mean
from ridgeline.core.names import fold
from ridgeline.studies.frame.study import Study


@cache
def _modules() -> Mapping[str, str]:
    """Names of studies, in order, with their modules: known without loading one."""
    found = sorted(m.name for m in pkgutil.iter_modules(ridgeline.studies.__path__) if not m.ispkg)
    return {name.replace("_", "-"): f"{ridgeline.studies.__name__}.{name}" for name in found}


def names() -> tuple[str, ...]:
    """All studies, in the order of the alphabet."""
    return tuple(_modules())


@cache
def find(name: str) -> Study:
    """The study of a name. Raises UnknownNameError with the nearest ones."""
    wanted = next((known for known in _modules() if fold(known) == fold(name)), None)
    if wanted is None:
        raise UnknownNameError(
            f"unknown study {name!r}",
            at="study",
            fix=did_you_mean(name, names(), listing="`ridgeline study` lists them"),
        )
    study: Study = importlib.import_module(_modules()[wanted]).STUDY
    return study
