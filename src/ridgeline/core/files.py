"""The one strict loader of outside files, and the one way to write a file whole or not at all.

YAML is read by the 1.2 core schema and JSON by its standard, both more strictly than the ordinary parsers do: at most
16 MiB, 64 levels, (YAML) half a million values; no anchors, aliases or tags; no key twice; finite numbers only; UTF-8
without byte-order mark; regular files only. Mapping keys are always text. Everything wrong is a FileFormatError that
names `file:line:column` and what would be right.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ridgeline.core._strict import Keys, Position, fail, json_data, line_column, walk_json, yaml_data
from ridgeline.core.errors import FileFormatError, SpecError, did_you_mean, nearest

MAX_BYTES = 16 * 2**20

T = TypeVar("T")

_KINDS = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a file holds (dict, list, str, int, float, bool, None) and where each part of it stands."""

    data: Any
    name: str
    text: str
    syntax: str

    @property
    def positions(self) -> Mapping[Keys, Position]:
        """Path of keys and indices -> (line, column) of the value, from 1; found on first use."""
        return _positions(self.text, self.syntax)

    def where(self, *keys: str | int) -> str:
        """`file:line:column key.path` of a value, or of its nearest parent if it is absent."""
        line, column = next(self.positions[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in self.positions)
        return f"{self.name}:{line}:{column} {_dotted(keys)}".rstrip()

    def need(self, *keys: str | int, kind: type[T]) -> T:
        """The value at that path, which must be there and of that kind (a whole number is also a float).

        Raises:
            SpecError: a key is absent (the fix names the nearest keys there) or the value is of another kind.
        """
        value = self.data
        for depth, key in enumerate(keys):
            present = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
            if key not in present:
                near = nearest(str(key), map(str, present))
                fix = f"did you mean {' or '.join(map(repr, near))}?" if near else f"add {key!r} here"
                raise SpecError(f"{_dotted(keys[: depth + 1])} is missing", at=self.where(*keys[:depth]), fix=fix)
            value = value[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            what = f"{_dotted(keys) or 'the file'} is not {_KINDS[kind]}"
            raise SpecError(
                what, at=self.where(*keys), got="null" if value is None else value, fix=f"give {_KINDS[kind]}"
            )
        return value


def load_yaml(path: str | os.PathLike[str]) -> Document:
    """The YAML file at `path`. Raises FileFormatError, never anything else."""
    return parse_yaml(_read(path), os.fspath(path))


def load_json(path: str | os.PathLike[str], *, infinite_ok: bool = False) -> Document:
    """The JSON file at `path`. Raises FileFormatError, never anything else.

    `infinite_ok` accepts the literals Infinity and -Infinity, which published model configurations hold.
    """
    return parse_json(_read(path), os.fspath(path), infinite_ok=infinite_ok)


def load_text(path: str | os.PathLike[str]) -> str:
    """The text of a small file, as UTF-8. Raises FileFormatError, never anything else."""
    return _decode(_read(path), os.fspath(path))


def parse_yaml(text: str | bytes, name: str = "<yaml>") -> Document:
    """One YAML 1.2 document. `name` is the file name in messages. Raises FileFormatError."""
    decoded = _decode(text, name)
    return Document(data=yaml_data(decoded, name), name=name, text=decoded, syntax="yaml")


def parse_json(text: str | bytes, name: str = "<json>", *, infinite_ok: bool = False) -> Document:
    """One JSON document. `name` is the file in messages; `infinite_ok` as in `load_json`. Raises FileFormatError."""
    decoded = _decode(text, name)
    return Document(data=json_data(decoded, name, infinite_ok=infinite_ok), name=name, text=decoded, syntax="json")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The sha256 of a regular file of any size, as 64 hex digits. Raises FileFormatError."""
    with _open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def regular_size(path: str | os.PathLike[str]) -> int:
    """Bytes in a regular file that can be read. Raises FileFormatError."""
    with _open_regular(path) as file:
        return os.fstat(file.fileno()).st_size


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Write a file whole or not at all; text as UTF-8. Raises FileFormatError (disk full, no such folder)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def writable_target(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` would replace or create, links followed.

    Raises:
        FileFormatError: the folder is missing or not writable, `path` is a folder or a device.
    """
    name = os.fspath(path)
    with _named_errors(name, "write"):
        target = Path(os.path.realpath(name))
        if target.exists() and not target.is_file():
            raise FileFormatError("only a regular file can be replaced", at=name, fix="give the name of a file")
        if not target.parent.is_dir():
            raise FileFormatError("no such folder", at=name, got=str(target.parent), fix="create the folder first")
        if not os.access(target.parent, os.W_OK):
            raise FileFormatError("the folder is not writable", at=name, got=str(target.parent), fix="write elsewhere")
    return target


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the same folder: renamed to `path` when the block ends, removed when it fails.

    The temporary name keeps the suffix, since some writers go by it. Links are followed; only files are replaced.

    Raises:
        FileFormatError: the folder is missing or not writable, the disk is full, `path` is a folder or a device.
    """
    name = os.fspath(path)
    target = writable_target(name)
    temporary = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(6)}.tmp{target.suffix}")
    try:
        yield temporary
        with _named_errors(name, "write"):
            _sync(temporary)
            temporary.replace(target)
        # Some systems cannot sync a folder; the rename is then as durable as they make it.
        with suppress(OSError):
            _sync(target.parent)
    except OSError as error:
        if error.filename != str(temporary) and error.errno not in _DISK:
            raise
        raise _os_error(error, name, "write") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _read(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a small regular file; the size is known before anything is read."""
    name = os.fspath(path)
    with _open_regular(path) as file, _named_errors(name, "read"):
        size = os.fstat(file.fileno()).st_size
        # One byte more than allowed, since a file may grow, and files of /proc state no size.
        content: bytes = file.read(MAX_BYTES + 1) if size <= MAX_BYTES else b""
    if max(size, len(content)) > MAX_BYTES:
        raise _too_large(name, max(size, len(content)))
    return content


@contextmanager
def _open_regular(path: str | os.PathLike[str]) -> Iterator[Any]:
    name = os.fspath(path)
    with _named_errors(name, "read"):
        kind = Path(name).stat().st_mode
        if not stat.S_ISREG(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "a device or a pipe"
            raise FileFormatError("not a regular file", at=name, got=what, fix="give the name of a file")
        file = open(name, "rb")  # noqa: PTH123, SIM115 - `name` may be anything; closed below
    with file:
        yield file


@contextmanager
def _named_errors(name: str, verb: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise FileFormatError("not a file name", at=verb, got=name, fix="give a name without NUL") from error
    except OSError as error:
        raise _os_error(error, name, verb) from error


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space or write elsewhere"),
    errno.EDQUOT: ("the disk quota is used up", "free some space or write elsewhere"),
    errno.EROFS: ("the file system is read-only", "write to another folder"),
    errno.EFBIG: ("the file would be too large for the file system", "write elsewhere"),
    errno.EACCES: ("permission denied", "check the rights of the file and its folder"),
    errno.EPERM: ("permission denied", "check the rights of the file and its folder"),
    errno.ENOTDIR: ("a part of the path is not a folder", "check the path"),
    errno.EISDIR: ("it is a folder", "give the name of a file"),
    errno.ELOOP: ("the links go in a circle", "give the file itself"),
    errno.ENAMETOOLONG: ("the file name is too long", "check the path"),
}


def _os_error(error: OSError, name: str, verb: str) -> FileFormatError:
    if error.errno == errno.ENOENT:
        folder = Path(name).parent
        try:
            beside = [entry.name for entry in islice(os.scandir(folder), 2000)]
        except OSError:
            return FileFormatError("no such folder", at=name, got=str(folder), fix="check the path")
        return FileFormatError("no such file", at=name, fix=did_you_mean(Path(name).name, beside))
    reason, fix = _REASONS.get(error.errno or 0, (error.strerror or type(error).__name__, "check the file"))
    return FileFormatError(f"cannot {verb} the file: {reason}", at=name, fix=fix)


def _sync(path: Path) -> None:
    """Push a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _too_large(name: str, got: int) -> FileFormatError:
    return FileFormatError(
        f"the file is larger than {MAX_BYTES // 2**20} MiB",
        at=name,
        got=f"{got} bytes",
        fix="descriptions are small; tables and traces go through --cases and --trace",
    )


def _decode(text: str | bytes, name: str) -> str:
    if len(text) > MAX_BYTES:
        raise _too_large(name, len(text))
    if isinstance(text, str):
        decoded = text
    else:
        for mark, encoding in ((b"\xef\xbb\xbf", "UTF-8"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")):
            if text.startswith(mark):
                fail(f"starts with a {encoding} byte-order mark (BOM)", name, 1, 1, "save it as UTF-8 without BOM")
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            before = text[: error.start].decode()
            line, column = line_column(before, len(before))
            bad = f"byte 0x{text[error.start]:02x}"
            fail("not UTF-8 text", name, line, column, "save it as UTF-8", got=bad)
    if decoded.startswith("\ufeff"):
        fail("starts with a byte-order mark (BOM)", name, 1, 1, "save it as UTF-8 without BOM")
    if not decoded.strip():
        fail("the file is empty", name, 1, 1, "is it the right file?")
    return decoded


def _dotted(keys: Keys) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")


@lru_cache(maxsize=8)
def _positions(text: str, syntax: str) -> Mapping[Keys, Position]:
    found: dict[Keys, Position] = {}
    if syntax == "yaml":
        yaml_data(text, "", found)
    else:
        found.update(walk_json(text, "", infinite_ok=True))
    return found
