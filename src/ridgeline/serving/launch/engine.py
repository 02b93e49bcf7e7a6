"""What an engine module gives: the words that launch a pool, and the columns behind words that were read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ridgeline.serving.launch.deployment import Launch, Note, Pool
from ridgeline.serving.launch.flags import Value, engine_flags
from ridgeline.serving.launch.formats import read_formats
from ridgeline.workloads import catalogue as models
from ridgeline.workloads.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One worker's launch: its words, the file of options that they name (name and text, or ""), and notes."""

    words: tuple[str, ...]
    options_name: str = ""
    options: str = ""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value that a file gave, and where."""

    value: Value
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRead:
    """What one launch says: its model, its role, and columns as an aggregated pool names them."""

    model: str
    role: str
    columns: Mapping[str, float | str]
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Values:
    """The decisions that a launch gives, by use, with typed access."""

    found: Mapping[str, Given] = field(default_factory=dict)

    def number(self, use: str, default: float = 0.0) -> float:
        """A number, or the default."""
        return float(self.found[use].value) if use in self.found else default  # type: ignore[arg-type]

    def text(self, use: str) -> str:
        """A text; "" if not given."""
        return str(self.found[use].value) if use in self.found else ""

    def on(self, use: str) -> bool:
        """Whether a switch is given and on."""
        return bool(self.found[use].value) if use in self.found else False

    def off(self, use: str) -> bool:
        """Whether a switch is given and off."""
        return use in self.found and not self.found[use].value

    def at(self, use: str) -> str:
        """Where it was given."""
        return self.found[use].at if use in self.found else ""


class Engine(Protocol):
    """One engine."""

    @property
    def name(self) -> str:
        """As the runtimes of the catalogue are named."""
        ...

    def write(self, launch: Launch, pool: Pool) -> Written:
        """The words of one worker, without those of hosts and ports."""
        ...

    def listen(self, port: int) -> tuple[str, ...]:
        """Words that open its server to others."""
        ...

    def spread(self, hosts: int, rank: str, leader: str) -> tuple[str, ...]:
        """Words of one of several hosts that a worker spans."""
        ...

    def read(self, values: Values) -> PoolRead:
        """The pool that the decisions describe."""
        ...


def known_model(name: str) -> Model | None:
    """The model, if the catalogue has it under that name; paths and the network are not asked."""
    return models.model(name) if name in models.model_names() else None


def read_alike(engine: str, values: Values) -> tuple[Model | None, dict[str, float | str], list[Note]]:
    """What every engine's decisions say in one way: the published model, formats, budgets and caching, and notes."""
    model, columns, notes = known_model(values.text("model")), common_columns(values), common_notes(values)
    words = (values.text(use) for use in ("quantization", "dtype", "kv"))
    formats, more = read_formats(engine_flags(engine), model, *words)
    return model, {**columns, **formats}, [*notes, *more]


def common_columns(values: Values) -> dict[str, float | str]:
    """Columns that every engine gives alike."""
    columns: dict[str, float | str] = {}
    for use in ("max_batch", "max_batched_tokens", "memory_frac"):
        if use in values.found:
            columns[use] = values.number(use)
    if values.on("overlap"):
        columns["nano_batches"] = 2.0
    if values.off("prefix_cache") or values.on("no_prefix_cache"):
        columns["prefix_hit_frac"] = 0.0
    return columns


def common_notes(values: Values) -> list[Note]:
    """Notes on what a launch says of the traffic's side, and no column of it holds."""
    notes = []
    if values.number("context"):
        text = f"requests of up to {values.number('context'):,.0f} tokens are served; a case holds means (isl, osl)"
        notes.append(Note(column="", text=text))
    if values.on("prefix_cache"):
        text = "cached prefixes are found; how often is the traffic's: give prefix_hit_frac"
        notes.append(Note(column="prefix_hit_frac", text=text))
    if values.off("prefix_cache") or values.on("no_prefix_cache"):
        notes.append(Note(column="prefix_hit_frac", text="prefixes are not cached, so that none is found"))
    if values.off("chunked"):
        notes.append(Note(column="", text="prompts are not cut into chunks; predictions take the runtime's usual rule"))
    if values.text("config"):
        text = f"the engine also reads {values.text('config')!r}, which was not read here"
        notes.append(Note(column="", text=text))
    return notes


def overlap_note(launch: Launch, pool: Pool, expressed: bool) -> tuple[Note, ...]:
    """A note where half batches cannot be asked for."""
    if not pool.half_batches or expressed:
        return ()
    return (Note(column="nano_batches", text="the engine has no flag for two half batches at once"),)
