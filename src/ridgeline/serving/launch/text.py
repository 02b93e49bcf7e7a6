"""How files are written: comments on one line, words quoted, YAML by a dumper without anchors."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from ridgeline.serving.launch.deployment import Launch, Note, has_experts, one_line
from ridgeline.serving.launch.flags import EngineFlags

_SLUG = re.compile(r"[^a-z0-9]+")
_NUMBERLIKE = re.compile(r"[+-]?[.0-9]")
_LONGEST_NAME = 40


class _Plain(yaml.SafeDumper):
    """Writes every value out, and quotes what YAML 1.1 and 1.2 read apart."""

    def ignore_aliases(self, data: Any) -> bool:
        """Nothing is an alias of anything."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # "1e3" is a number to some readers and text to others; quoted it is text to all.
    style = "'" if _NUMBERLIKE.match(text) and text.isprintable() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _text)


def yaml_text(documents: Sequence[Any], comments: Iterable[str]) -> str:
    """Documents as YAML, under comments."""
    head = "".join(f"# {one_line(line)}\n" for line in comments)
    body = yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)
    return head + body


def shell_words(words: Sequence[str], *, raw: Sequence[str] = ()) -> str:
    """A command with every word quoted, a line per flag; words that begin with one of `raw` are shell text of ours."""
    lines = [""]
    for word in words:
        quoted = word if word.startswith(tuple(raw)) else shlex.quote(word)
        if word.startswith("--") and lines[-1]:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + quoted
    return " \\\n  ".join(lines)


def heading(launch: Launch, engine: EngineFlags, notes: Iterable[Note]) -> list[str]:
    """Comment lines: what this is, pool by pool, and every note."""
    lines = [f"{launch.model} on {launch.chip}, flags of {engine.title} {engine.version}. Written by ridgeline."]
    for pool in launch.pools:
        degrees = {"tp": pool.tp, "pp": pool.pp, "dp": pool.dp, "cp": pool.cp}
        degrees |= {"ep": pool.ep, "moe_tp": pool.moe_tp} if has_experts(launch.published) else {}
        said = " ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1 or name == "tp")
        lines.append(f"{pool.workers} x {pool.role or 'replica'} of {pool.chips} chips: {said}")
    lines += [f"note: {note.line()}" for note in dict.fromkeys(notes)]
    return lines


def slug(name: str) -> str:
    """A name that Kubernetes takes for objects and labels (RFC 1123 label)."""
    short = _SLUG.sub("-", name.rpartition("/")[2].casefold()).strip("-")[:_LONGEST_NAME].strip("-")
    if not short:
        return "model"
    return short if short[0].isalpha() else f"m-{short}"


def shared_notes(launch: Launch, engine: EngineFlags) -> list[Note]:
    """Notes on what no file of this engine holds."""
    notes = []
    if launch.runtime != engine.name:
        text = f"the case is predicted for {launch.runtime}, and this launches {engine.title}"
        notes.append(Note(column="runtime", text=text))
    if launch.version:
        text = f"the case is predicted for {launch.version}; the flags are those of {engine.version}"
        notes.append(Note(column="runtime_version", text=text))
    return notes
