"""Kubernetes manifests, llm-d values and Dynamo deployments as the launches of their containers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ridgeline.core.errors import DomainError
from ridgeline.core.files import Document, parse_yaml
from ridgeline.serving.launch.commands import Launched, Options, is_shell, read_command
from ridgeline.serving.launch.facts import chip_of_label, fact
from ridgeline.serving.launch.found import FoundPool
from ridgeline.serving.launch.shell import Command, Word, commands_in

T = TypeVar("T")
Place = tuple[str | int, ...]

_TEMPLATES: Mapping[str, Place] = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "ReplicaSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
}
_COMPONENT = "app.kubernetes.io/component"
_SIDES = ("prefill", "decode")
_MOST_WORKERS = 1_000_000
_VARIABLE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


@dataclass(frozen=True, slots=True)
class Part:
    """A mapping inside a document, and where."""

    document: Document
    place: Place

    def get(self, *keys: str | int, kind: type[T]) -> T | None:
        """What stands there, which must be of that kind; None if it is absent. Raises SpecError."""
        value = self.document.data
        for key in (*self.place, *keys):
            present = isinstance(value, dict) or (isinstance(value, list) and isinstance(key, int) and key < len(value))
            if not present or (isinstance(value, dict) and key not in value):
                return None
            value = value[key]
        return None if value is None else self.document.need(*self.place, *keys, kind=kind)

    def at(self, *keys: str | int) -> Part:
        """A part further down."""
        return Part(self.document, (*self.place, *keys))

    def where(self, *keys: str | int) -> str:
        """`file:line:column path` of it."""
        return self.document.where(*self.place, *keys)

    def line(self, *keys: str | int) -> int:
        """Its line."""
        positions, path = self.document.positions, (*self.place, *keys)
        return next(positions[path[:n]][0] for n in range(len(path), -1, -1) if path[:n] in positions)

    def count(self, *keys: str | int, default: int = 1) -> int:
        """A number of workers or hosts. Raises DomainError."""
        found = self.get(*keys, kind=int)
        if found is not None and not 0 <= found <= _MOST_WORKERS:
            fix = f"a whole number up to {_MOST_WORKERS:,}"
            raise DomainError("no number of workers", at=self.where(*keys), got=found, fix=fix)
        return default if found is None else found


def pools_of_documents(documents: Sequence[Document]) -> list[FoundPool]:
    """Every worker that the documents start, in order. Raises SpecError and others, with `file:line`."""
    options = _options(documents)
    found: list[FoundPool] = []
    for document in documents:
        if isinstance(document.data, dict):
            found += _of_object(Part(document, ()), options)
    return found


def _of_object(part: Part, options: Options) -> Iterator[FoundPool]:
    kind = part.get("kind", kind=str) or ""
    if kind == "List":
        for index in range(len(part.get("items", kind=list) or [])):
            yield from _of_object(part.at("items", index), options)
    elif kind in _TEMPLATES:
        replicas = 1 if kind in ("Pod", "Job") else part.count("spec", "replicas")
        yield from _of_pod(part.at(*_TEMPLATES[kind]), options, replicas, _component(part))
    elif kind == "LeaderWorkerSet":
        template = part.at("spec", "leaderWorkerTemplate")
        leader = "leaderTemplate" if template.get("leaderTemplate", kind=dict) is not None else "workerTemplate"
        hosts, replicas = template.count("size"), part.count("spec", "replicas")
        yield from _of_pod(template.at(leader, "spec"), options, replicas, _component(part), hosts=hosts)
    elif kind == "DynamoGraphDeployment":
        yield from _of_dynamo(part, options)
    elif not kind and part.get("modelArtifacts", kind=dict) is not None:
        yield from _of_llmd(part, options)


def _of_pod(
    spec: Part, options: Options, replicas: int, role: str, *, hosts: int = 1, chip: str = ""
) -> Iterator[FoundPool]:
    """The engines in the containers of a pod template."""
    chip = chip or _chip(spec)
    for index in range(len(spec.get("containers", kind=list) or [])):
        container = spec.at("containers", index)
        for launched in _of_container(container, options):
            if replicas:
                chips = _chips(container) * hosts
                yield FoundPool(launched=launched, workers=replicas, role=role, chip=chip, chips=chips)


def _of_container(
    container: Part, options: Options, before: Sequence[Word] = (), variables: Mapping[str, str] | None = None
) -> Iterator[Launched]:
    """The engines that a container's command starts; `before` goes ahead of its arguments, `variables` are set."""
    # An image's entry point counts where the manifest gives no command of its own.
    image = "" if container.get("command", kind=list) else container.get("image", kind=str) or ""
    env = {**(variables or {}), **_env(container)}
    words = [*before, *_words(container, "command", env), *_words(container, "args", env)]
    name = container.document.name
    text = is_shell([word.text for word in words])
    if text is None and len(words) == 1 and " " in words[0].text:
        # Dynamo's older operator hands a whole line to a shell.
        text = words[0].text
    if text is not None:
        line = next(word.line for word in words if word.text == text)
        commands = commands_in(text, name, variables=env, first=line)
    else:
        commands = [Command(tuple(words), {})]
    for command in commands:
        launched = read_command(command, name, options, image=image)
        if launched is not None:
            yield launched


def _words(container: Part, key: str, env: Mapping[str, str]) -> Iterator[Word]:
    for index, item in enumerate(container.get(key, kind=list) or []):
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            container.get(key, index, kind=str)
        text, literal = expanded(str(item), env)
        yield Word(text, container.line(key, index), literal)


def expanded(text: str, env: Mapping[str, str]) -> tuple[str, bool]:
    """A container's word with its variables, and whether all are known: $(NAME) is one, $$ a dollar.

    Source: Kubernetes API reference, Container v1 core, `command`.
    """
    unknown = [match[1] for match in _VARIABLE.finditer(text) if match[1] is not None and match[1] not in env]
    plain = _VARIABLE.sub(lambda match: "$" if match[1] is None else env.get(match[1], match[0]), text)
    return plain, not unknown


def _env(container: Part) -> dict[str, str]:
    """Variables with a value in the manifest itself."""
    found: dict[str, str] = {}
    for index, item in enumerate(container.get("env", kind=list) or []):
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            value = item.get("value")
            if value is not None:
                found[item["name"]] = container.at("env", index).get("value", kind=str) or ""
    return found


def _chips(container: Part) -> float:
    """Chips that a container asks for; 0 if it does not say."""
    asked = container.get("resources", kind=dict) or {}
    for side in ("limits", "requests"):
        for name in (*fact("resources").values(), "gpu"):
            value = (asked.get(side) or {}).get(name)
            if value is not None:
                text = str(value)
                if not text.isdecimal() or len(text) > 6:
                    where = container.where("resources", side, name)
                    raise DomainError("no number of chips", at=where, got=value, fix='write it like "8"')
                return float(text)
    return 0.0


def _chip(spec: Part) -> str:
    """The chip that the node selector or the required affinity names."""
    labels: dict[str, list[str]] = {}
    for key, value in (spec.get("nodeSelector", kind=dict) or {}).items():
        labels.setdefault(key, []).append(str(value))
    path = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms")
    for term in spec.get(*path, kind=list) or []:
        for rule in (term.get("matchExpressions") or []) if isinstance(term, dict) else []:
            if isinstance(rule, dict) and rule.get("operator") == "In" and isinstance(rule.get("values"), list):
                labels.setdefault(str(rule.get("key")), []).extend(map(str, rule["values"]))
    return _named_chip(labels)


def _named_chip(labels: Mapping[str, Sequence[str]]) -> str:
    named = {chip for key, values in labels.items() for value in values if (chip := chip_of_label(key, value))}
    return named.pop() if len(named) == 1 else ""


def _component(part: Part) -> str:
    label = part.get("metadata", "labels", _COMPONENT, kind=str)
    return label if label in _SIDES else ""


def _of_dynamo(part: Part, options: Options) -> Iterator[FoundPool]:
    """Components of v1beta1, services of v1alpha1."""
    components = part.get("spec", "components", kind=list)
    places: list[Part] = [part.at("spec", "components", index) for index in range(len(components or []))]
    places += [part.at("spec", "services", name) for name in part.get("spec", "services", kind=dict) or {}]
    for place in places:
        kind = place.get("type", kind=str) or place.get("subComponentType", kind=str) or ""
        hosts = place.count("multinode", "nodeCount")
        role = kind if kind in _SIDES else ""
        if place.get("podTemplate", kind=dict) is not None:
            yield from _of_pod(place.at("podTemplate", "spec"), options, place.count("replicas"), role, hosts=hosts)
            continue
        container = place.at("extraPodSpec", "mainContainer")
        chip = _chip(place.at("extraPodSpec"))
        for launched in _of_container(container, options):
            chips = _chips(place) * hosts
            yield FoundPool(launched=launched, workers=place.count("replicas"), role=role, chip=chip, chips=chips)


def _of_llmd(part: Part, options: Options) -> Iterator[FoundPool]:
    """Sections decode and prefill of the chart's values."""
    sections = [side for side in _SIDES if part.get(side, kind=dict) and part.count(side, "replicas")]
    sections = [side for side in sections if part.get(side, "create", kind=bool) is not False]
    for side in sections:
        section = part.at(side)
        key = section.get("acceleratorTypes", "labelKey", kind=str) or ""
        values = section.get("acceleratorTypes", "labelValues", kind=list) or []
        chip = _named_chip({key: [str(value) for value in values]}) or _chip(section)
        role = side if len(sections) > 1 else ""
        for index in range(len(section.get("containers", kind=list) or [])):
            container = section.at("containers", index)
            words = _chart_words(part, section, container)
            for launched in _of_container(container, options, words, _chart_variables(section)):
                replicas, hosts = section.count("replicas"), section.count("parallelism", "workers")
                chips = _chips(container) * max(hosts, 1)
                yield FoundPool(launched=launched, workers=replicas, role=role, chip=chip, chips=chips)


def _chart_variables(section: Part) -> dict[str, str]:
    """Variables that the chart sets by a section's degrees (its templates/_helpers.tpl)."""
    names = {"TP_SIZE": "tensor", "DP_SIZE": "data", "DP_SIZE_LOCAL": "dataLocal"}
    degrees = {name: section.get("parallelism", key, kind=int) for name, key in names.items()}
    return {name: str(degree) for name, degree in degrees.items() if degree is not None}


def _chart_words(part: Part, section: Part, container: Part) -> list[Word]:
    """The words that the chart puts before the container's arguments (modelCommand: vllmServe)."""
    if container.get("modelCommand", kind=str) != "vllmServe":
        return []
    name = part.get("modelArtifacts", "name", kind=str)
    uri = part.get("modelArtifacts", "uri", kind=str) or ""
    model = name or uri.removeprefix("hf://")
    words = ["vllm", "serve", model]
    given = {str(word).partition("=")[0] for word in container.get("args", kind=list) or []}
    for key, flag in (("tensor", "--tensor-parallel-size"), ("data", "--data-parallel-size")):
        degree = section.get("parallelism", key, kind=int)
        words += [flag, str(degree)] if degree is not None and flag not in given else []
    line = container.line("modelCommand")
    return [Word(word, line) for word in words]


def _options(documents: Sequence[Document]) -> Options:
    """Files of extra options in the config maps of the same manifest, read when a command names them."""
    texts: dict[str, tuple[Document, str, str]] = {}
    for document in documents:
        part = Part(document, ())
        if isinstance(document.data, dict) and part.get("kind", kind=str) == "ConfigMap":
            for key, text in (part.get("data", kind=dict) or {}).items():
                if isinstance(text, str):
                    texts[key] = (document, key, text)
    return _finder(texts)


def _finder(texts: Mapping[str, tuple[Document, str, str]]) -> Callable[[str, str], Document | None]:
    def find(name: str, at: str) -> Document | None:
        found = texts.get(Path(name).name)
        if found is None:
            return None
        document, key, text = found
        return parse_yaml(text, f"{document.where('data', key)}")

    return find
