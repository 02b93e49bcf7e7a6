"""Launch files and command lines as cases: read as text and strict YAML, never run, never downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ridgeline.core.errors import FileFormatError
from ridgeline.core.files import Document, load_json, load_text, load_yaml, parse_yaml
from ridgeline.serving.launch.commands import Options, engine_start, read_command
from ridgeline.serving.launch.found import FoundPool, Reading, merged
from ridgeline.serving.launch.manifests import pools_of_documents
from ridgeline.serving.launch.shell import commands_in

LINE = "<launch>"
"""What messages call a command line that is no file."""

MOST_DOCUMENTS = 200
_MOST_FILES = 2000
_SEPARATOR = re.compile(r"^---(?:[ \t].*)?$", re.MULTILINE)
_YAML = (".yaml", ".yml", ".json")


def read_launch(source: str | os.PathLike[str]) -> Reading:
    """The case behind a launch.

    Args:
        source: a command line (`vllm serve ...`), a shell file, a Kubernetes manifest, llm-d values, a Dynamo
            deployment, or a folder that `ridgeline deploy` wrote.
    Raises:
        FileFormatError: it cannot be read, or is unsafe.
        SpecError, DomainError, UnknownNameError: a flag twice, a value that cannot be, no engine; with `file:line`.
    """
    text = os.fspath(source)
    if is_command(text):
        return merged(_of_shell(text, LINE, _beside(Path.cwd())), LINE)
    path = Path(text)
    if _is_folder(path):
        return merged(_of_folder(path), text)
    return merged(_of_file(path), text)


def is_command(text: str) -> bool:
    """Whether a text is a command line of an engine rather than the name of a file."""
    if len(text) > 4096 or "\n" in text or any(mark in text for mark in ("\x00",)):
        return True
    if " " not in text.strip():
        return False
    try:
        return any(engine_start(command.words) is not None for command in commands_in(text, LINE))
    except FileFormatError:
        return not _exists(text)


def is_launch_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds a launch, rather than a case: by its ending, or by the keys of a manifest."""
    place = Path(path)
    if _is_folder(place) or place.suffix not in _YAML:
        return True
    keys = {key for document in _documents(place) if isinstance(document.data, dict) for key in document.data}
    return ("kind" in keys and "apiVersion" in keys) or "modelArtifacts" in keys


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _of_folder(folder: Path) -> list[FoundPool]:
    """Every launch in the files of a folder, in the order of their names."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False))
    except OSError as error:
        raise FileFormatError(
            "the folder cannot be read", at=str(folder), got=error.strerror, fix="check it"
        ) from error
    if len(names) > _MOST_FILES:
        raise FileFormatError("too many files for a launch", at=str(folder), got=len(names), fix="name one file")
    found: list[FoundPool] = []
    for name in names:
        if name.endswith((".sh", *_YAML)):
            found += _of_file(folder / name)
    return found


def _of_file(path: Path) -> list[FoundPool]:
    if path.suffix in _YAML:
        return pools_of_documents(_documents(path))
    return _of_shell(load_text(path), str(path), _beside(path.parent))


def _documents(path: Path) -> list[Document]:
    """The documents of a YAML file, one by one through the strict loader, with the lines of the whole file."""
    if path.suffix == ".json":
        return [load_json(path)]
    text = load_text(path)
    if not _SEPARATOR.search(text):
        return [parse_yaml(text, str(path))]
    found: list[Document] = []
    start = 0
    cuts = [match.span() for match in _SEPARATOR.finditer(text)]
    if len(cuts) > MOST_DOCUMENTS:
        fix = f"a launch has at most {MOST_DOCUMENTS}"
        raise FileFormatError("too many documents", at=str(path), got=len(cuts), fix=fix)
    for begin, end in (*cuts, (len(text), len(text))):
        part = text[start:begin]
        if any(line.strip() and not line.lstrip().startswith("#") for line in part.splitlines()):
            found.append(parse_yaml("\n" * text.count("\n", 0, start) + part, str(path)))
        start = end
    if not found:
        raise FileFormatError("the file holds nothing but comments", at=str(path), fix="is it the right file?")
    return found


def _of_shell(text: str, name: str, options: Options) -> list[FoundPool]:
    found = [read_command(command, name, options) for command in commands_in(text, name)]
    launched = [one for one in found if one is not None]
    main = [one for one in launched if one.rank == 0]
    # One command may be a recipe for any number of replicas; several are those that there are.
    return [FoundPool(launched=one, workers=None if len(main) == 1 else 1) for one in launched]


def _beside(folder: Path) -> Options:
    """Files of extra options are looked for by their own name beside the launch, nowhere else."""

    def find(name: str, at: str) -> Document | None:
        own = Path(name.replace("\\", "/")).name
        path = folder / own
        if not own or not _exists(str(path)):
            return None
        try:
            return load_yaml(path)
        except FileFormatError as error:
            raise FileFormatError(error.what, at=f"{error.at} (named at {at})", got=error.got, fix=error.fix) from error

    return find
