"""An emulator from its options to its last word."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import math
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ridgeline.api.simulations.live import live
from ridgeline.apps.emulator.asks import Reader, by_bytes
from ridgeline.apps.emulator.clock import Clock
from ridgeline.apps.emulator.http import Connection
from ridgeline.apps.emulator.metrics import MOST_LATE_FRAC
from ridgeline.apps.emulator.scenario import Scenario, load_scenario
from ridgeline.apps.emulator.service import Emulator, Limits
from ridgeline.core.errors import DomainError, MissingExtraError, RidgelineError, SpecError
from ridgeline.core.seeding import stream
from ridgeline.workloads.catalogue import model
from ridgeline.workloads.traffic import parse_law

BACKLOG = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is emulated, where, and how.

    Attributes:
        arguments: of the case, as `rl.simulate` takes them.
        speed: simulated seconds per second.
        output: law of the lengths of answers; a client's limit cuts them. Empty: as long as the client's limit.
        served: name under which clients ask for the model; empty: its own.
    """

    arguments: Mapping[str, Any]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    speed: float = 1.0
    output: str = ""
    served: str = ""
    tokenizer: Path | None = None
    scenario: Path | None = None
    prefix_cache: bool = True
    echo: bool = False
    plugins: bool = True
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse what cannot be served."""
        if not 0 < self.speed < math.inf:
            raise DomainError("speed is above 0", at="--speed", got=self.speed, fix="1 is real time")
        if not 0 <= self.port < 1 << 16:
            raise DomainError("no such port", at="--port", got=self.port, fix="0 to 65535; 0 takes a free one")
        if self.limits.status not in (429, 503):
            raise DomainError("clients are turned away with 429 or 503", at="--overload", got=self.limits.status)
        if not _local(self.host) and not self.limits.key:
            fix = "give --api-key, or listen on 127.0.0.1"
            raise SpecError("an address that others reach needs a key", at="--host", got=self.host, fix=fix)


def emulate(options: Options, *, told: Callable[[str], None]) -> bool:
    """Serve until SIGINT or SIGTERM. `told` hears where it listens, and in the end how late tokens were.

    Returns: whether the run was valid: the 99th percentile of lateness within 5 % of the time between tokens.
    """
    reserved = _reserve(options)
    others = [_fork(options, reserved, n) for n in range(1, options.workers)]
    try:
        valid = asyncio.run(_serve(options, reserved, told))
    finally:
        for pid in others:
            os.kill(pid, signal.SIGTERM)
        ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in others]
    return valid and not any(ends)


def _reserve(options: Options) -> socket.socket:
    """The address, taken."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    taken = socket.socket(family, socket.SOCK_STREAM)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if options.workers > 1:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        taken.bind((options.host, options.port))
    except OSError as error:
        taken.close()
        at = f"{options.host}:{options.port}"
        raise RidgelineError("cannot listen there", at=at, got=error.strerror, fix="take another --port") from error
    return taken


def _fork(options: Options, reserved: socket.socket, number: int) -> int:
    """A process of its own with its share of the replicas; the kernel spreads connections."""
    host, port = reserved.getsockname()[:2]
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        reserved.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        own = socket.socket(family, socket.SOCK_STREAM)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        own.bind((host, port))
        code = 0 if asyncio.run(_serve(options, own, lambda _: None, number)) else 3
    finally:
        os._exit(code)


async def _serve(options: Options, sock: socket.socket, told: Callable[[str], None], number: int = 0) -> bool:
    loop = asyncio.get_running_loop()
    clock = Clock(loop, options.speed)
    emulator, events = _emulator(options, clock, number)
    gc.collect()
    gc.freeze()  # what is loaded now stays: looking through it again and again would hold tokens up for tens of ms
    sock.listen(BACKLOG)
    server = await loop.create_server(lambda: Connection(emulator, emulator.register), sock=sock)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    host, port = sock.getsockname()[:2]
    told(f"{emulator.reader.models[0]} on http://{f'[{host}]' if ':' in host else host}:{port}/v1{events}")
    try:
        await stopped.wait()
    finally:
        server.close()
        clock.stop()
        for connection in list(emulator.connections):
            connection.close(abort=True)
    frac = emulator.metrics.late_frac(clock)
    told(_last_words(emulator, clock, frac))
    return not frac > MOST_LATE_FRAC


def _emulator(options: Options, clock: Clock, number: int) -> tuple[Emulator, str]:
    """The fleet and what serves it."""
    arguments = dict(options.arguments)
    if options.workers > 1:
        arguments["replicas"] = _share(arguments, options.workers)
    scenario = load_scenario(options.scenario) if options.scenario is not None else Scenario()
    made: list[Emulator] = []
    running, name = live(
        plugins=options.plugins,
        prefix_cache=options.prefix_cache,
        on_tokens=lambda *what: made[0].tokens(*what),
        on_end=lambda *what: made[0].ended(*what),
        lateness=clock.late,
        **arguments,
    )
    longest = int(min(running.fleet.longest, float(model(name).context)))
    usual = max(int(running.slots.outputs[0]), 1)
    reader = Reader(
        models=(options.served or name,),
        longest=longest,
        draw=_lengths(options, usual, number),
        count=by_bytes if options.tokenizer is None else _counter(options.tokenizer),
        unit_tokens=running.slots.hash_tokens,
    )
    made.append(Emulator(clock, reader, limits=options.limits, seed=options.seed + number, echo=options.echo))
    scenario.arm(running.fleet)
    made[0].serve(running)
    return made[0], f", {len(scenario.events)} events" if scenario.events else ""


def _share(arguments: Mapping[str, Any], workers: int) -> float:
    replicas = float(arguments.get("replicas") or 1.0)
    if replicas % workers:
        fix = f"take --replicas that {workers} divides, or fewer --workers"
        raise SpecError("each process has the same number of replicas", at="--workers", got=workers, fix=fix)
    return replicas / workers


def _lengths(options: Options, usual: int, number: int) -> Callable[[int], int]:
    """The length of an answer, from the client's limit."""
    if not options.output:
        return lambda limit: limit or usual
    law = parse_law(options.output, at="--output")
    rng = stream(options.seed + number, "lengths of answers")
    return lambda limit: max(int(law.sample(1, rng)[0]), 1)


def _counter(path: Path) -> Callable[[str], int]:
    """Tokens by a tokenizer.json."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        fix = "pip install tokenizers, or leave it out: four bytes are a token then"
        raise MissingExtraError("a tokenizer needs the package tokenizers", at="--tokenizer", fix=fix) from error
    from ridgeline.core.files import load_json

    load_json(path)  # the strict loader says what is wrong with it
    tokenizer = Tokenizer.from_file(os.fspath(path))
    return lambda text: len(tokenizer.encode(text).ids)


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _last_words(emulator: Emulator, clock: Clock, frac: float) -> str:
    ended = emulator.metrics.ended
    words = f"{ended['stop'] + ended['length']:,} requests, {emulator.metrics.generated_tokens:,} tokens"
    if not clock.lateness.count:
        return words
    p50, p99 = clock.lateness.quantiles([0.5, 0.99]).tolist()
    words += f"; tokens were {p50 * 1e3:.2f} ms late at p50, {p99 * 1e3:.2f} ms at p99"
    if frac > MOST_LATE_FRAC:
        words += f": INVALID, that is {frac:.0%} of the time between tokens; lower --speed or the load"
    return words


def stderr(text: str) -> None:
    """A line for whoever watches."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
