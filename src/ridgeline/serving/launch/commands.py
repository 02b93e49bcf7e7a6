"""Words of a command as the decisions of an engine: which program it is, and what each of its flags says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ridgeline.core.errors import FileFormatError, SpecError
from ridgeline.core.files import Document
from ridgeline.serving.launch.deployment import Note, one_line
from ridgeline.serving.launch.engine import Given, PoolRead, Values
from ridgeline.serving.launch.flags import EngineFlags, Flag, Value, engine_flags, engine_names, value_of
from ridgeline.serving.launch.registry import ENGINES
from ridgeline.serving.launch.shell import Command, Word

Options = Callable[[str, str], Document | None]
"""The file of extra options by the name that a command gives it, and where; None if it is not at hand."""

_SUBCOMMANDS = ("serve",)
_OTHER_SUBCOMMANDS = ("disaggregated", "disaggregated_mpi_worker", "mm_embedding_serve")
_MENTIONS = ("echo", "printf", "pip", "pip3", "uv", "which", "pkill")
_SHELLS = ("sh", "bash", "ash", "dash", "zsh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """One engine that a file starts.

    Attributes:
        engine: its name.
        read: the pool that its flags describe.
        rank: of its host inside a worker that spans several; those above 0 are no workers of their own.
        hosts: that the worker spans, if said.
        notes: what matters and no column holds.
        ignored: flags that do not matter.
        at: where it stands.
    """

    engine: str
    read: PoolRead
    rank: float
    hosts: float
    notes: tuple[Note, ...]
    ignored: tuple[str, ...]
    at: str


@dataclass(slots=True)
class _Taken:
    """What the words gave so far."""

    values: dict[str, Given] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


def engine_start(words: Sequence[Word], image: str = "") -> tuple[str, int] | None:
    """The engine that the words start, and where its own words begin; None if they start none.

    `image` is the container's; its entry point starts the engine when the words do not.
    """
    if words and words[0].text.rpartition("/")[2] in _MENTIONS:
        return None
    for name in engine_names():
        for program in engine_flags(name).programs:
            for start in range(len(words) - len(program) + 1):
                spelled = [word.text.rpartition("/")[2] for word in words[start : start + len(program)]]
                if spelled == list(program):
                    return name, start + len(program)
    for name in engine_names():
        images = engine_flags(name).images
        if image and _image(image) in images:
            return name, 0
        for index, word in enumerate(words):
            if words[0].text in ("docker", "podman", "nerdctl", "sudo") and _image(word.text) in images:
                return name, index + 1
    return None


def is_shell(words: Sequence[str]) -> str | None:
    """The text behind `sh -c`; None if the words are no such call."""
    if len(words) >= 3 and words[0].rpartition("/")[2] in _SHELLS:
        for index, word in enumerate(words[1:-1], start=1):
            if word.startswith("-") and not word.startswith("--") and word.endswith("c"):
                return words[index + 1]
    return None


def read_command(command: Command, name: str, options: Options, *, image: str = "") -> Launched | None:
    """The engine that a command starts, or None.

    Args:
        command: its words.
        name: of the file, for messages.
        options: finds the file of extra options that TensorRT-LLM reads.
        image: of the container that it runs in.
    Raises:
        RidgelineError: a flag twice, a value that cannot be, one that only a shell knows; with `file:line`.
    """
    started = engine_start(command.words, image)
    if started is None:
        return None
    engine_name, start = started
    words = command.words[start:]
    line = command.words[0].line if command.words else 1
    if words and words[0].text in _OTHER_SUBCOMMANDS and engine_name == "trtllm":
        return None
    if words and words[0].text in _SUBCOMMANDS:
        words = words[1:]
    engine, taken = engine_flags(engine_name), _Taken()
    _take_words(engine, words, name, taken)
    if "options" in taken.values:
        _take_options(engine, taken, options)
    if "model" not in taken.values:
        fix = "name it, or give it with its flag"
        raise SpecError(f"{engine.title} is started without a model", at=f"{name}:{line}", fix=fix)
    values = Values(taken.values)
    read = ENGINES[engine_name].read(values)
    rank = values.number("rank") or (1.0 if values.on("headless") else 0.0) or values.number("dp_rank")
    return Launched(
        engine=engine_name,
        read=read,
        rank=rank,
        hosts=values.number("hosts", 1.0),
        notes=(*read.notes, *taken.notes),
        ignored=tuple(taken.ignored),
        at=f"{name}:{line}",
    )


def _image(text: str) -> str:
    """An image without its tag, digest and `docker.io/`."""
    bare = text.partition("@")[0]
    folder, slash, last = bare.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}".removeprefix("docker.io/")


def _take_words(engine: EngineFlags, words: Sequence[Word], name: str, taken: _Taken) -> None:
    stream = iter(range(len(words)))
    for index in stream:
        word = words[index]
        at = f"{name}:{word.line}"
        if not word.text.startswith("-") or word.text == "-":
            _take_alone(engine, word, at, taken)
            continue
        spelling, equals, behind = word.text.partition("=")
        base, dot, key = spelling.partition(".")
        known = engine.find(spelling) or (engine.find(base) if dot else None)
        if known is None:
            text = engine.unknown(spelling, at)
            taken.notes.append(Note(column="", text=f"{one_line(spelling)[:60]}: {text}"))
            _skip_value(words, index, stream, equals)
            continue
        flag, off = known
        given = Word(behind, word.line, word.literal) if equals else None
        if flag.kind == "switch" and given is None:
            _put(flag, not off, spelling, at, taken)
            continue
        value = given if given is not None else _next(flag, words, index, stream, at)
        if flag.kind == "list" and given is None:
            _skip_value(words, index + 1, stream, "")
        if flag.use in ("rank", "hosts", "dp_rank") and not value.literal:
            continue
        if flag.use and not value.literal:
            what = f"the value of {flag.name} is only known to a shell"
            raise SpecError(what, at=at, got=value.text, fix="write the value itself")
        if dot and flag.kind == "json":
            _put_key(flag, key, value.text, at, taken)
        else:
            _put(flag, value_of(flag, value.text, at) if flag.use else value.text, spelling, at, taken)


def _take_alone(engine: EngineFlags, word: Word, at: str, taken: _Taken) -> None:
    """A word that no flag takes is the model, once; what a shell would expand is told."""
    if not word.literal:
        text = f"{one_line(word.text)[:60]}: only a shell knows which words these are; they were not read"
        taken.notes.append(Note(column="", text=text))
    elif "model" in taken.values or engine.name == "sglang":
        fix = "quote what belongs together; flags begin with -"
        raise SpecError("a word that no flag takes", at=at, got=word.text, fix=fix)
    else:
        taken.values["model"] = Given(value=_model(word.text, at), at=at)


def _next(flag: Flag, words: Sequence[Word], index: int, stream: Iterator[int], at: str) -> Word:
    if index + 1 >= len(words) or (words[index + 1].text[:2] == "--" and words[index + 1].literal):
        raise SpecError(f"{flag.name} has no value", at=at, fix=f"write {flag.name} VALUE")
    next(stream)
    return words[index + 1]


def _skip_value(words: Sequence[Word], index: int, stream: Iterator[int], equals: str) -> None:
    """Pass over the words that an unknown flag or a list seems to take."""
    while not equals and index + 1 < len(words) and not words[index + 1].text.startswith("-"):
        next(stream)
        index += 1


def _put(flag: Flag, value: Value, spelling: str, at: str, taken: _Taken) -> None:
    if flag.use:
        if flag.use in taken.values:
            fix = f"it stands at {taken.values[flag.use].at} too; keep one"
            raise SpecError(f"{flag.name} is given twice", at=at, got=spelling, fix=fix)
        value = _model(str(value), at) if flag.use == "model" else value
        taken.values[flag.use] = Given(value=value, at=at)
    elif flag.why:
        shown = "" if value is True else f" {one_line(str(value))[:60]}"
        text = f"{flag.name}{shown}: {flag.why}; no column of a case holds it"
        taken.notes.append(Note(column="", text=text))
    else:
        taken.ignored.append(flag.name)


def _put_key(flag: Flag, key: str, text: str, at: str, taken: _Taken) -> None:
    """`--speculative-config.method mtp` is one key of the JSON object."""
    before = taken.values.get(flag.use)
    keys: dict[str, object] = dict(before.value) if before is not None else {}  # type: ignore[arg-type]
    if key in keys:
        raise SpecError(f"{flag.name}.{key} is given twice", at=at, got=text, fix="keep one")
    whole = text.isdecimal() and len(text) < 16
    taken.values[flag.use] = Given(value={**keys, key: int(text) if whole else text}, at=at)


def _model(name: str, at: str) -> str:
    if not name or name.startswith("hub:") or not name.isprintable():
        fix = "name it as on the hub (OWNER/NAME), or by the folder of its config.json"
        raise SpecError("not the name of a model", at=at, got=name, fix=fix)
    return name


def _take_options(engine: EngineFlags, taken: _Taken, options: Options) -> None:
    """TensorRT-LLM's file of extra options wins over flags."""
    given = taken.values["options"]
    document = options(str(given.value), given.at)
    if document is None:
        text = f"options stand in {one_line(str(given.value))!r}, which is not beside the launch; it was not read"
        taken.notes.append(Note(column="", text=text))
        return
    if not isinstance(document.data, dict):
        raise FileFormatError("options are a mapping", at=document.where(), fix="write `max_batch_size: 256`")
    for path, value in _flat(document.data):
        at = document.where(*path.split("."))
        flag = engine.options.get(path)
        if flag is None:
            _tell_option(engine, path, value, taken)
        elif value is not None:
            text = str(value).casefold() if isinstance(value, bool) else str(value)
            taken.values[flag.use] = Given(value=value_of(flag, text, at), at=at)


def _tell_option(engine: EngineFlags, path: str, value: object, taken: _Taken) -> None:
    top = path.partition(".")[0]
    flag = engine.flags.get(top) or engine.flags.get(f"--{top}") or engine.flags.get(f"--{top.replace('_', '-')}")
    shown = one_line(f"{path}: {value}")[:80]
    if flag is None:
        text = f"{shown}: no option of {engine.title} {engine.version} that is known here"
        taken.notes.append(Note(column="", text=text))
    elif flag.why:
        taken.notes.append(Note(column="", text=f"{shown}: {flag.why}; no column of a case holds it"))
    else:
        taken.ignored.append(path)


def _flat(data: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """Dotted paths of the first two levels, and what stands there."""
    for key, value in data.items():
        if isinstance(value, dict) and not before:
            yield from _flat(value, f"{key}.")
        else:
            yield f"{before}{key}", value
