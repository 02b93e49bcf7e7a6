"""The strict loader: the traps of the ordinary parsers do not exist here, and every refusal has a place."""

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ridgeline.core import _strict, files
from ridgeline.core.errors import FileFormatError, RidgelineError, SpecError
from ridgeline.core.files import (
    Document,
    atomic_path,
    load_json,
    load_yaml,
    parse_json,
    parse_yaml,
    regular_size,
    sha256_of,
    write_atomic,
)


@pytest.fixture(params=["libyaml", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both event parsers must refuse and accept the same."""
    if request.param == "python":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    return str(request.param)


SCALARS: dict[str, Any] = {
    "no": "no",
    "NO": "NO",
    "on": "on",
    "off": "off",
    "yes": "yes",
    "y": "y",
    "1.10": 1.1,
    "12:30:45": "12:30:45",
    "1_000": "1_000",
    "1e3": 1000.0,
    "1E-3": 0.001,
    "0o17": 15,
    "017": 17,
    "0x1F": 31,
    "+12": 12,
    "-3.5": -3.5,
    ".5": 0.5,
    "5.": 5.0,
    ".": ".",
    "~": None,
    "null": None,
    "true": True,
    "False": False,
    "2026-11-20": "2026-11-20",
    "3.35 TB/s": "3.35 TB/s",
    "NaN": "NaN",
    "0b11": "0b11",
    "1.2.3": "1.2.3",
    "'1'": "1",
    '"true"': "true",
    "''": "",
    "١٢": "١٢",
}


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(("text", "expected"), SCALARS.items())
def test_yaml_scalars_follow_the_1_2_core_schema(text: str, expected: object) -> None:
    value = parse_yaml(f"key: {text}").data["key"]
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.usefixtures("parser")
def test_yaml_keys_are_text_as_written() -> None:
    assert parse_yaml("on: 1\n1.10: 2\n1.1: 3\nnull: 4\n'': 5").data == {"on": 1, "1.10": 2, "1.1": 3, "null": 4, "": 5}


@pytest.mark.usefixtures("parser")
def test_yaml_nests_lists_and_mappings() -> None:
    data = parse_yaml("a:\n  - b: [1, {c: d}]\n    e: |\n      two\n      lines\n  - []\n  - {}\nf:\n").data
    assert data == {"a": [{"b": [1, {"c": "d"}], "e": "two\nlines\n"}, [], {}], "f": None}


YAML_REFUSED = {
    "equal keys": ("a: 1\nb: 2\na: 3", "the key 'a' is given twice", "3:1"),
    "equal keys in flow": ("{a: 1, a: 2}", "the key 'a' is given twice", "1:8"),
    "anchor": ("a: &x 1\n", "an anchor (&x)", "1:4"),
    "anchor on a list": ("a: &x [1]\n", "an anchor (&x)", "1:4"),
    "alias": ("a: *x\n", "an alias (*x)", "1:4"),
    "bomb": ("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]", "an anchor", "1:4"),
    "tag": ("a: !!python/object/apply:os.system [x]", "a tag", "1:4"),
    "local tag": ("a: !x 1", "a tag (!x)", "1:4"),
    "plain tag": ("! a", "a tag (!)", "1:1"),
    "nan": ("a: .nan", "not a finite number", "1:4"),
    "inf": ("a: [1, -.Inf]", "not a finite number", "1:8"),
    "overflow": ("a: 1e999", "not a finite number", "1:4"),
    "huge integer": ("a: 1" + 400 * "0", "not a finite number", "1:4"),
    "huge integer of 309 digits": ("a: 9" + 308 * "0", "not a finite number", "1:4"),
    "too deep": ("[" * 65 + "]" * 65, "deeper than 64", "1:65"),
    "3000 brackets": ("[" * 3000, "deeper than 64", "1:65"),
    "too deep in blocks": ("\n".join(" " * i + "a:" for i in range(70)), "deeper than 64", "65:65"),
    "list as key": ("? [a, b]\n: 1", "cannot be a key", "1:3"),
    "no key": ("a: 1\n?\n: 2", "has no key", ""),
    "two documents": ("a: 1\n---\nb: 2", "second document", "2:1"),
    "only a comment": ("# nothing\n", "nothing but comments", "1:1"),
    "empty": ("", "the file is empty", "1:1"),
    "blank": (" \n\n", "the file is empty", "1:1"),
    "open bracket": ("a: [1, 2", "not YAML", ""),
    "open quote": ("a: 'x", "not YAML", "1:"),
    "tab": ("\ta: 1", "not YAML", "1:1"),
    "two colons": ("a: b: c", "not YAML", "1:5"),
    "bad indent": ("a:\n  b: 1\n c: 2", "not YAML", "3:2"),
    "control character": ("a: 1\nb: \x07", "a control character", "2:4"),
    "other version": ("%YAML 2.0\n---\na: 1", "not YAML", "1:1"),
    "surrogate": ('a: "\\ud800"', "", "1:"),
    "surrogate key": ('"\\ud800": 1', "", "1:"),
    "no such character": ('a: "\\UFFFFFFFF"', "not YAML", "1:"),
}


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("case", YAML_REFUSED)
def test_yaml_traps_are_refused_with_their_place(case: str) -> None:
    text, what, place = YAML_REFUSED[case]
    with pytest.raises(FileFormatError) as caught:
        parse_yaml(text, "study.yaml")
    assert what in caught.value.what
    assert caught.value.at.startswith(f"study.yaml:{place}")
    assert caught.value.fix


def test_yaml_with_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_strict, "MAX_YAML_VALUES", 10)
    assert len(parse_yaml("- 1\n" * 9).data) == 9
    with pytest.raises(FileFormatError, match="more than 10 values"):
        parse_yaml("- 1\n" * 10)


JSON_REFUSED = {
    "equal keys": ('{"a": 1,\n "a": 2}', "the key 'a' is given twice", "2:2"),
    "equal keys inside": ('{"x": [{"b": 1}, {"b": 1, "c": {"d": 1, "d": 2}}]}', "the key 'd' is given twice", "1:41"),
    "equal keys, one escaped": ('{"a": 1, "\\u0061": 2}', "the key 'a' is given twice", "1:10"),
    "nan": ('{"a": NaN}', "not a finite number", "1:7"),
    "infinity": ("[1,\n2,\n-Infinity]", "not a finite number", "3:1"),
    "overflow": ('{"a": [1e999]}', "not a finite number", "1:8"),
    "overflow, then nonsense": ("[1e999null]", "not a finite number", "1:2"),
    "huge integer": ("1" + "0" * 400, "not a finite number", "1:1"),
    "5000 digits": ("[" + "9" * 5000 + "]", "not a finite number", "1:2"),
    "too deep": ("[" * 65 + "]" * 65, "deeper than 64", "1:65"),
    "too deep in objects": ('{"a":' * 65 + "1" + "}" * 65, "deeper than 64", "1:321"),
    "100000 brackets": ("[" * 100_000, "deeper than 64", "1:65"),
    "truncated": ('{"a": [1, 2', "not JSON", "1:12"),
    "truncated text": ('{"a": "x', "not JSON", "1:7"),
    "trailing comma": ("[1,]", "not JSON", "1:"),
    "no colon": ('{"a" 1}', "not JSON", "1:6"),
    "two values": ("1 2", "not JSON", "1:3"),
    "comment": ("{} // x", "not JSON", "1:4"),
    "single quotes": ("{'a': 1}", "not JSON", "1:2"),
    "surrogate": ('["\\ud800"]', "half a surrogate pair", "1:2"),
    "surrogate key": ('{"\\udfff": 1}', "half a surrogate pair", "1:2"),
    "control character": ('["\t"]', "not JSON", "1:"),
    "empty": ("", "the file is empty", "1:1"),
}


@pytest.mark.parametrize("case", JSON_REFUSED)
def test_json_traps_are_refused_with_their_place(case: str) -> None:
    text, what, place = JSON_REFUSED[case]
    with pytest.raises(FileFormatError) as caught:
        parse_json(text, "config.json")
    assert what in caught.value.what
    assert caught.value.at.startswith(f"config.json:{place}")
    assert caught.value.fix


def test_a_json_file_that_ends_early_says_so() -> None:
    with pytest.raises(FileFormatError, match="cut off"):
        parse_json('{"a": [1, 2')
    with pytest.raises(FileFormatError, match="check the commas"):
        parse_json("[1 2]")


def test_json_with_too_many_values_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_strict, "MAX_JSON_VALUES", 10)
    with pytest.raises(FileFormatError, match="more than 10 values"):
        parse_json("[" + "1," * 11 + "1]")


def test_a_flaw_that_only_the_fast_parser_sees_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_strict, "_deeper_than", lambda data, depth: True)
    with pytest.raises(FileFormatError, match="not strict JSON"):
        parse_json("[1]")


def test_infinity_is_read_only_where_published_files_hold_it() -> None:
    text = '{"time_step_limit": [0.0, Infinity, -Infinity]}'
    assert parse_json(text, infinite_ok=True).data == {"time_step_limit": [0.0, math.inf, -math.inf]}
    with pytest.raises(FileFormatError):
        parse_json(text)
    for refused in ("[NaN]", "[1e999]", '{"a": Infinity, "a": 1}'):
        with pytest.raises(FileFormatError):
            parse_json(refused, infinite_ok=True)


def test_the_largest_finite_integers_are_kept_exactly() -> None:
    largest = int(float.fromhex("0x1.fffffffffffffp+1023"))
    assert parse_json(f"[{largest}, -{largest}]").data == [largest, -largest]
    assert parse_yaml(f"[{largest}, -{largest}]").data == [largest, -largest]


ENCODINGS = {
    "UTF-8 BOM": (b"\xef\xbb\xbfa: 1", "UTF-8 byte-order mark (BOM)"),
    "UTF-16": ("a: 1".encode("utf-16"), "UTF-16 byte-order mark (BOM)"),
    "UTF-16 BE": (b"\xfe\xff\x00a", "UTF-16 byte-order mark (BOM)"),
    "latin-1": ("a: 1\nb: é".encode("latin-1"), "not UTF-8 text"),
    "BOM in text": ("\ufeffa: 1", "byte-order mark (BOM)"),
}


@pytest.mark.parametrize("case", ENCODINGS)
@pytest.mark.parametrize("parse", [parse_json, parse_yaml])
def test_only_plain_utf_8_is_read(case: str, parse: Any) -> None:
    content, what = ENCODINGS[case]
    with pytest.raises(FileFormatError) as caught:
        parse(content, "x")
    assert what in caught.value.what
    assert "UTF-8" in caught.value.fix


def test_the_byte_that_is_not_utf_8_is_named_with_its_place() -> None:
    with pytest.raises(FileFormatError) as caught:
        parse_yaml("a: 1\nb: é".encode("latin-1"), "x")
    assert (caught.value.at, caught.value.got) == ("x:2:4", "byte 0xe9")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(json_values)
def test_json_is_read_as_it_was_written(value: object) -> None:
    assert parse_json(json.dumps(value)).data == value


@given(json_values)
def test_every_json_value_has_a_position(value: object) -> None:
    document = parse_json(json.dumps(value, indent=1))
    assert set(document.positions) == set(_paths(value))
    for (line, column), written in _spots(document):
        found = document.text.splitlines()[line - 1][column - 1 :]
        assert found.startswith(json.dumps(written)[:1])


@given(json_values)
def test_flow_yaml_reads_what_json_writes(value: object) -> None:
    # JSON is a subset of YAML 1.2, save for what the parsers still treat by 1.1: long keys and some characters.
    written = json.dumps(value)
    if not written.isascii() or "\\u" in written or "\\/" in written or "\\f" in written or len(written) > 500:
        return
    document = parse_yaml(written)
    assert document.data == value
    assert set(document.positions) == set(_paths(value))


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield from _paths(child, (*path, key))


def _spots(document: Document) -> Iterator[tuple[tuple[int, int], Any]]:
    for path, spot in document.positions.items():
        value = document.data
        for key in path:
            value = value[key]
        yield spot, value


CONFIG = """\
name: h100
memory:
  - {capacity: 80 GiB, bandwidth: 3.35 TB/s}
  - capacity: 50
"""


@pytest.mark.usefixtures("parser")
def test_where_names_line_column_and_path() -> None:
    document = parse_yaml(CONFIG, "h100.yaml")
    assert document.where("name") == "h100.yaml:1:7 name"
    assert document.where("memory", 0, "bandwidth") == "h100.yaml:3:35 memory[0].bandwidth"
    assert document.where("memory", 1, "capacity") == "h100.yaml:4:15 memory[1].capacity"
    assert document.where() == "h100.yaml:1:1"


def test_where_of_something_absent_is_its_nearest_parent() -> None:
    assert parse_yaml(CONFIG, "f").where("memory", 1, "bandwidth") == "f:4:5 memory[1].bandwidth"
    assert parse_json('{"a":\n {"b": 1}}', "f").where("a", "c", 3) == "f:2:2 a.c[3]"


def test_need_gives_values_of_the_kind_asked_for() -> None:
    document = parse_json('{"a": [1, 2.5, "x", true, null], "b": {"c": 3}}')
    assert document.need("a", 0, kind=int) == 1
    widened = document.need("a", 0, kind=float)
    assert (widened, type(widened)) == (1.0, float)
    assert document.need("a", 1, kind=float) == 2.5
    assert document.need("a", 2, kind=str) == "x"
    assert document.need("a", 3, kind=bool) is True
    assert document.need("b", kind=dict) == {"c": 3}
    assert document.need(kind=dict) == document.data


@pytest.mark.parametrize(
    ("keys", "kind", "what", "fix"),
    [
        (("hiden_size",), int, "hiden_size is missing", "did you mean 'hidden_size'?"),
        (("zzz",), int, "zzz is missing", "add 'zzz' here"),
        (("layers", 7), int, "layers[7] is missing", "add 7 here"),
        (("layers", "x"), int, "layers.x is missing", "add 'x' here"),
        (("hidden_size", "x"), int, "hidden_size.x is missing", "add 'x' here"),
        (("layers",), dict, "layers is not a mapping", "give a mapping"),
        (("flag",), int, "flag is not a whole number", "give a whole number"),
        (("flag",), float, "flag is not a number", "give a number"),
        (("hidden_size",), bool, "hidden_size is not true or false", "give true or false"),
        (("none",), str, "none is not text", "give text"),
        ((), list, "the file is not a list", "give a list"),
    ],
)
def test_need_says_what_is_missing_or_of_another_kind(keys: tuple[Any, ...], kind: type, what: str, fix: str) -> None:
    document = parse_json('{"hidden_size": 4096, "layers": [1, 2], "flag": true, "none": null}', "config.json")
    with pytest.raises(SpecError) as caught:
        document.need(*keys, kind=kind)
    assert caught.value.what == what
    assert caught.value.fix == fix
    assert caught.value.at.startswith("config.json:1:")


def test_files_are_loaded_by_path(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: on")
    (tmp_path / "a.json").write_text('{"a": Infinity}')
    assert load_yaml(tmp_path / "a.yaml").data == {"a": "on"}
    assert load_json(str(tmp_path / "a.json"), infinite_ok=True).data == {"a": math.inf}
    with pytest.raises(FileFormatError, match=r"a\.json:1:7"):
        load_json(tmp_path / "a.json")


def test_a_gigabyte_is_refused_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(2**30)
    monkeypatch.setattr(files, "parse_json", lambda *args, **kwargs: pytest.fail("the content was read"))
    with pytest.raises(FileFormatError, match=r"larger than 16 MiB.*1073741824 bytes"):
        load_json(huge)


def test_text_over_the_limit_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 4)
    with pytest.raises(FileFormatError, match="larger than"):
        parse_yaml("a: 10")


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    monkeypatch.setattr(files, "MAX_BYTES", 4)

    class Small:
        st_size = 0

    monkeypatch.setattr(files.os, "fstat", lambda handle: Small)
    with pytest.raises(FileFormatError, match="larger than"):
        load_json(tmp_path / "a.json")


def test_a_missing_file_names_the_nearest_beside_it(tmp_path: Path) -> None:
    (tmp_path / "h100_sxm.yaml").write_text("a: 1")
    with pytest.raises(FileFormatError, match=r"did you mean 'h100_sxm\.yaml'"):
        load_yaml(tmp_path / "h100sxm.yaml")
    with pytest.raises(FileFormatError, match="no such folder"):
        load_yaml(tmp_path / "nowhere" / "a.yaml")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (".", "not a regular file"),
        ("pipe", "not a regular file"),
        ("a.yaml/b", "not a folder"),
        ("x" * 300, "name is too long"),
        ("loop", "circle"),
        ("nul\0", "not a file name"),
    ],
)
def test_only_regular_files_are_opened(tmp_path: Path, name: str, what: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.yaml").write_text("a: 1")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for read in (load_yaml, load_json, sha256_of, regular_size):
        with pytest.raises(FileFormatError) as caught:
            read(os.path.join(tmp_path, name))  # noqa: PTH118 - pathlib refuses some of these names
        assert what in caught.value.what


def test_devices_are_not_opened() -> None:
    with pytest.raises(FileFormatError, match="a device or a pipe"):
        load_json("/dev/zero")


def test_a_file_without_read_permission_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "a.yaml"
    secret.write_text("a: 1")

    def refuse(*args: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(secret))

    # The super-user may read everything, so the refusal is simulated.
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(FileFormatError, match="cannot read the file: permission denied"):
        load_yaml(secret)


def test_sha256_is_the_standard_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert regular_size(tmp_path / "abc") == 3


def test_files_are_written_whole_and_replace_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    write_atomic(target, "é")
    assert target.read_bytes() == "é".encode()
    write_atomic(target, b"\xff")
    assert target.read_bytes() == b"\xff"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_a_new_file_has_the_permissions_of_any_other(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, OSError])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "out.csv"
    target.write_text("old")
    with pytest.raises(failure), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise failure
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_the_temporary_file_is_beside_the_target_and_keeps_its_suffix(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "out.parquet") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".parquet"
        assert not (tmp_path / "out.parquet").exists()
        temporary.write_text("x")


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomic(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("code", sorted(files._DISK))
def test_a_full_or_read_only_disk_is_named(tmp_path: Path, code: int) -> None:
    with pytest.raises(FileFormatError, match=r"disk|file system"), atomic_path(tmp_path / "out") as temporary:
        temporary.write_text("half")
        raise OSError(code, os.strerror(code))
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_file_that_cannot_be_created_is_named_as_the_target(tmp_path: Path) -> None:
    with (
        pytest.raises(FileFormatError, match="permission denied") as caught,
        atomic_path(tmp_path / "out") as temporary,
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(temporary))
    assert caught.value.at == str(tmp_path / "out")


def test_a_rename_that_fails_is_named_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(FileFormatError, match="cannot write the file: Input/output error"):
        write_atomic(tmp_path / "out", "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("", "only a regular file"),
        ("folder", "only a regular file"),
        ("no/out", "no such folder"),
        ("a\0b", "not a file name"),
    ],
)
def test_only_files_in_folders_that_exist_are_written(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileFormatError, match=what):
        write_atomic(f"{tmp_path}/{name}", "x")


def test_devices_are_never_replaced() -> None:
    with pytest.raises(FileFormatError, match="only a regular file"):
        write_atomic("/dev/null", "x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_folder_without_write_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(FileFormatError, match="not writable"):
        write_atomic(tmp_path / "out", "x")


def test_errors_of_the_loader_are_ridgeline_errors() -> None:
    assert issubclass(FileFormatError, RidgelineError)
