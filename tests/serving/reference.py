"""A slow, eager engine: one iteration at a time, every sequence a record, nothing counted ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ridgeline.serving.engine import PART
from ridgeline.serving.rules import Requests, Rules
from ridgeline.serving.step_table import StepTimes


@dataclass
class Sequence:
    """One request: `prompt` to compute (`done` of it), `context` in the cache, `left` outputs."""

    id: int
    prompt: float
    left: int
    hit: float
    sent: float
    first: float = math.nan
    last: float = math.nan
    eligible: int = 0
    done: float = 0.0
    context: float = 0.0
    decoding: bool = False

    def held(self, rules: Rules, decoding_only: float) -> float:
        """Tokens that it takes from the cache."""
        if rules.cache == "reserve":
            return self.prompt + self.left + decoding_only
        return self.context if self.decoding else self.prompt


def simulate(times: StepTimes, rules: Rules, requests: Requests) -> list[Sequence]:
    """Serve every request; returns them with their times."""
    sizes = zip(requests.prompts, requests.outputs, requests.hits, strict=True)
    todo = [Sequence(i, float(p), o, float(h), math.nan) for i, (p, o, h) in enumerate(sizes)]
    everyone, queue, running = list(todo), [], []
    emitted = {s.id: 0 for s in todo}
    arriving: list[Sequence] = []
    t = front = 0.0
    iteration = waited = 0

    def send(time: float) -> None:
        if todo:
            sequence = todo.pop(0)
            sequence.sent = time
            arriving.append(sequence)

    for time in [0.0] * requests.clients if requests.arrivals is None else requests.arrivals:
        send(time)
    while running or queue or arriving:
        if not running and not queue:
            t = max(t, min(s.sent for s in arriving))
        idle = not running
        for s in sorted((s for s in arriving if s.sent <= t), key=lambda s: (s.sent, s.id)):
            arriving.remove(s)
            queue.append(s)
            s.eligible = iteration + (0 if idle else int(rules.lag + 0.5 * (s.id % 2)))
        if idle:
            queue[0].eligible = min(queue[0].eligible, iteration)
        used = sum(s.held(rules, emitted[s.id]) for s in running)
        short = False
        while rules.cache != "reserve" and sum(s.decoding for s in running) > rules.cache_tokens - used:
            victim = running.pop()
            used -= victim.held(rules, 0)
            if victim.decoding:
                victim.prompt, victim.hit, victim.decoding = victim.context + 1.0, 0.0, False
            victim.done, victim.eligible, short = 0.0, iteration, True
            queue.insert(0, victim)
        decoding = [s for s in running if s.decoding]
        prompts = [s for s in running if not s.decoding]
        separate = rules.prompts == "prefill-first"
        share = rules.token_budget - (0 if separate else len(decoding))
        budget = share - sum(s.prompt - s.hit - s.done for s in prompts)
        free, admitted = rules.cache_tokens - used, []
        for s in queue if not short else []:
            if len(running) + len(admitted) >= rules.slots or budget <= 0 or s.eligible > iteration:
                break
            compute, alone = s.prompt - s.hit, not running and not admitted
            behind = bool(admitted or prompts)
            if compute > budget and not alone and (rules.prompts == "whole" or (separate and behind)):
                break
            need = s.prompt + (s.left if rules.cache == "reserve" else 0)
            promise = PART * (sum(x.left for x in decoding) + sum(x.left for x in admitted) + s.left)
            if need + (promise if rules.cache == "reserve-part" else 0.0) > free and not (alone and need <= free):
                break
            admitted.append(s)
            budget, free = budget - compute, free - need
        tokens = sum(s.prompt - s.hit for s in admitted) + len(decoding)
        held = admitted and decoding and not prompts and waited < rules.wait_steps
        if held and tokens < rules.wait_frac * rules.token_budget:
            waited, admitted = waited + 1, []
        elif admitted:
            waited = 0
        queue = queue[len(admitted) :]
        running += admitted
        chunks = []
        for s in prompts + admitted:
            chunk = min(s.prompt - s.hit - s.done, share)
            if chunk > 0:
                chunks.append((s, chunk, s.hit + s.done))
                share -= chunk
        moving = [] if separate and chunks else decoding
        context = sum(s.context + 1 for s in moving)
        if chunks:
            t += times.mixed(len(moving), context, [(c, p) for _, c, p in chunks])
        else:
            base, slope = times.decode(len(moving))
            t += base + slope * context
        iteration += 1
        for s, chunk, _ in chunks:
            s.done += chunk
        ready = [s for s, _, _ in chunks if s.done >= s.prompt - s.hit]
        front = max(front, t) + (len(moving) + len(ready)) * rules.front_end_s
        seen = front if rules.front_end_s else t
        for s in moving:
            s.context += 1
            s.left -= 1
            emitted[s.id] += 1
        finished = [s for s in moving if s.left == 0]
        for s in ready:
            s.first = seen if math.isnan(s.first) else s.first
            s.decoding, s.context, s.left = True, s.prompt, s.left - 1
            emitted[s.id] += 1
            if s.left == 0:
                finished.append(s)
        for s in finished:
            s.last = seen
            running.remove(s)
            if requests.arrivals is None:
                send(seen)
    return everyone
