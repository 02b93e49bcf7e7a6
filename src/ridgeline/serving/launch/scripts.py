"""Shell scripts, one per host: the workers of a deployment laid on its machines, each started by its command line."""

from __future__ import annotations

from dataclasses import dataclass, field

import yaml

from ridgeline.core.errors import DomainError
from ridgeline.serving.launch.deployment import Launch, Note, Pool
from ridgeline.serving.launch.engine import Written
from ridgeline.serving.launch.facts import fact
from ridgeline.serving.launch.flags import engine_flags
from ridgeline.serving.launch.registry import ENGINES
from ridgeline.serving.launch.text import heading, shared_notes, shell_words

_PORTS_APART = 100
_MOST_HOSTS = 2000


@dataclass(slots=True)
class _Host:
    """A machine: chips that are taken, and what it starts."""

    number: int
    taken: int = 0
    commands: list[str] = field(default_factory=list)
    urls: dict[str, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the scripts call it."""
        return f"node-{self.number:02d}"


@dataclass(frozen=True, slots=True)
class Scripts:
    """The target of one engine's command lines."""

    engine: str

    def write(self, launch: Launch) -> tuple[dict[str, str], list[Note]]:
        """A script per host, and the files of options that they name."""
        engine = engine_flags(self.engine)
        notes = shared_notes(launch, engine)
        text = f"the scripts run where they are started: hosts with {launch.host_chips} {launch.chip} are meant"
        notes.append(Note(column="chip", text=text))
        hosts: list[_Host] = []
        texts: dict[str, str] = {}
        needs = sum(pool.workers * pool.chips for pool in launch.pools) / launch.host_chips
        if needs > _MOST_HOSTS:
            what = f"a script for each of {needs:,.0f} hosts is too many"
            raise DomainError(what, at="replicas", got=needs, fix="write a manifest: --target kubernetes")
        for pool in launch.pools:
            written = ENGINES[self.engine].write(launch, pool)
            notes += written.notes
            if written.options_name:
                texts[written.options_name] = written.options
            for _ in range(pool.workers):
                self._place(launch, pool, written, hosts)
        notes += self._notes(launch, hosts)
        lines = heading(launch, engine, notes)
        options = bool(texts)
        for host in hosts:
            texts[f"{host.name}.sh"] = _script(host, len(hosts), lines, beside=options)
        if launch.split and self.engine == "trtllm":
            texts["router.yaml"] = _router(hosts)
        return dict(sorted(texts.items())), notes

    def _place(self, launch: Launch, pool: Pool, written: Written, hosts: list[_Host]) -> None:
        """Put a worker on the last host if it has room, else on as many new ones as it spans."""
        count = launch.hosts(pool)
        each = pool.chips // count
        if count > 1 or not hosts or hosts[-1].taken + each > launch.host_chips:
            first = len(hosts) + 1
            hosts += [_Host(number=first + index) for index in range(count)]
        mine = hosts[-count:]
        for rank, host in enumerate(mine):
            host.commands.append(self._command(launch, pool, written, mine, rank, each))
            host.taken += each
        port = fact("serving_port") + len(mine[0].commands) - 1
        mine[0].urls.setdefault(pool.role, []).append(f"{mine[0].name}:{port}")

    def _command(self, launch: Launch, pool: Pool, written: Written, hosts: list[_Host], rank: int, each: int) -> str:
        host, engine = hosts[rank], ENGINES[self.engine]
        index = len(host.commands)
        words = [*written.words, *engine.listen(fact("serving_port") + index)]
        if len(hosts) > 1 and self.engine == "trtllm":
            if rank:
                return ""
            where = ",".join(f"{one.name}:{each}" for one in hosts)
            words = ["mpirun", "-n", str(pool.chips), "--host", where, "trtllm-llmapi-launch", *words]
        elif len(hosts) > 1:
            words += engine.spread(len(hosts), str(rank), hosts[0].name)
        if pool.role == "prefill" and self.engine == "sglang":
            words += ["--disaggregation-bootstrap-port", str(fact("bootstrap_port") + index)]
        before = ""
        devices = fact("devices").get(launch.vendor)
        if each < launch.host_chips and devices:
            before = f"{devices}={','.join(str(host.taken + chip) for chip in range(each))} "
        if pool.role and self.engine == "vllm":
            before += f"VLLM_NIXL_SIDE_CHANNEL_HOST={host.name} "
            before += f"VLLM_NIXL_SIDE_CHANNEL_PORT={fact('side_channel_port') + _PORTS_APART * index} "
        return before + shell_words(words)

    def _notes(self, launch: Launch, hosts: list[_Host]) -> list[Note]:
        notes = []
        if any(len(host.commands) > 1 for host in hosts) and launch.vendor not in fact("devices"):
            text = f"which chips of {launch.vendor} each worker of a host sees is not written: set its variable"
            notes.append(Note(column="", text=text))
        if len(hosts) > 1:
            text = "node-01, node-02, ... stand for the addresses of the hosts that run the scripts of those names"
            notes.append(Note(column="", text=text))
        if any(launch.hosts(pool) > 1 for pool in launch.pools) and self.engine == "trtllm":
            notes.append(Note(column="", text="MPI starts the ranks of other hosts; it needs its own way in (ssh)"))
        if launch.split and self.engine == "trtllm":
            text = "`trtllm-serve disaggregated -c router.yaml` takes the requests"
            notes.append(Note(column="", text=text))
        elif launch.split:
            text = "a router that sends each request to a prefill worker, then to a decode worker, is not written"
            notes.append(Note(column="", text=text))
        elif sum(len(urls) for host in hosts for urls in host.urls.values()) > 1:
            notes.append(Note(column="", text="a load balancer before the replicas is not written"))
        return notes


def _script(host: _Host, hosts: int, lines: list[str], *, beside: bool) -> str:
    """One host's script; its workers run beside each other until all have ended; options may lie `beside` it."""
    commands = [command for command in host.commands if command]
    head = ["#!/bin/sh", f"# Host {host.number} of {hosts}.", *(f"# {line}" for line in lines), "set -eu"]
    head += ['cd -- "$(dirname -- "$0")"', ""] if beside else [""]
    if not commands:
        body = ["# Started from the first host of its worker."]
    elif len(commands) == 1:
        body = [commands[0]]
    else:
        body = [*(f"{command} &" for command in commands), "wait"]
    return "\n".join([*head, *body, ""])


def _router(hosts: list[_Host]) -> str:
    """The configuration of TensorRT-LLM's own router."""
    urls = {role: [url for host in hosts for url in host.urls.get(role, [])] for role in ("prefill", "decode")}
    port = fact("serving_port") - 1
    config = {
        "hostname": "0.0.0.0",  # noqa: S104 - of the written file
        "port": port,
        "backend": "pytorch",
        "context_servers": {"num_instances": len(urls["prefill"]), "urls": urls["prefill"]},
        "generation_servers": {"num_instances": len(urls["decode"]), "urls": urls["decode"]},
    }
    return str(yaml.safe_dump(config, sort_keys=False))
