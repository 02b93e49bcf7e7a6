"""One lane of the compiled core: what `engine.Engine` does, on plain arrays, by the same expressions in the same order.

Read `engine.py` first; names are the same.
"""

from __future__ import annotations

import math

from ridgeline.serving.compiled.batch import (
    add_prompt,
    add_running,
    blocks_of,
    depart,
    emit_first,
    forget,
    heap_pop,
    held,
    is_live,
    iterations_that_fit,
    join,
    leave_batch,
    make_room,
    needs,
    new_node,
)
from ridgeline.serving.compiled.state import PREFILL_FIRST, WHOLE, Record, World, kernel, prompt_times, steps_until
from ridgeline.serving.engine.batch import EPSILON, NEVER, PART, SHIFT

# Ends of runs --------------------------------------------------------------------------------------------------------


@kernel
def complete(w: World, s: Record, bound: int, seen: float) -> int:
    """Sequences whose last token this boundary brings leave."""
    r, done = w.rules[0], 0
    while s.heaped and w.keys[s.heap] < bound:
        live, node = is_live(w, s), w.places[s.heap]
        heap_pop(w, s)
        if live:
            p = w.nodes[node]
            s.free += held(r, s, p)
            leave_batch(w, s, p)
            done = depart(w, s, node, seen, done)
    return done


@kernel
def through_front_end(w: World, s: Record, k: int, n: int, emitted: int) -> float:
    """As `Engine._through_front_end`."""
    r = w.rules[0]
    each, last = n * r.growth * r.front_end_s, emitted * r.front_end_s
    if each + last <= 0:
        return s.end
    total = k * each + last
    s.front = max(s.front + total, s.start + s.u + total, s.end + each + last)
    return s.front


@kernel
def write_run(w: World, s: Record, k: int) -> None:
    """The run that ends, behind the others."""
    f = w.fleet[0]
    tokens, node = 0.0, s.first_prompt
    for _ in range(s.chunks):
        tokens += w.nodes[node].chunk
        node = w.nodes[node].after
    row = w.runs[f.runs]
    f.runs += 1
    row[0], row[1], row[2], row[3], row[4] = s.index, s.start, s.u, s.v, k
    row[5], row[6], row[7], row[8], row[9] = s.moving, s.context, tokens, s.chunks, s.used


@kernel
def finish(w: World, s: Record) -> int:
    """The run under way ends: how many requests are complete; they are in `done`."""
    r, k = w.rules[0], s.k
    s.t = s.end
    if not k:
        return 0
    s.k = 0
    n, t = s.moving, s.end
    s.iteration += k
    s.clock += k
    s.events += 1
    if s.held:
        s.waited += k
    s.area += s.n * (t - s.start)
    s.busy += t - s.start
    if r.keep_runs:
        write_run(w, s, k)
    if n:
        if r.grows:
            s.free -= needs(w, s, k)
        s.step += k
    emitted, node = 0, s.first_prompt
    for _ in range(s.chunks):
        p = w.nodes[node]
        p.remaining -= p.chunk * k
        emitted += p.remaining <= 0
        node = p.after
    seen = through_front_end(w, s, k, n, emitted) if r.front_end_s else t
    done = complete(w, s, (s.step + 1) << SHIFT, seen) if n else 0
    node = s.first_prompt
    for _ in range(s.chunks if emitted else 0):
        p = w.nodes[node]
        following = p.after
        if p.remaining <= 0:
            done = emit_first(w, s, node, seen, done)
        node = following
    return done


# Arrivals ------------------------------------------------------------------------------------------------------------


@kernel
def cut_at(s: Record, boundary: int) -> None:
    """The run under way ends after so many iterations."""
    s.k = k = max(boundary, 1)
    s.end = s.start + (k * s.u + s.v * (k * (k - 1) // 2))


@kernel
def push(w: World, s: Record, request: int, time: float) -> None:
    """As `Engine.push`."""
    r = w.rules[0]
    alone = s.waiting == 0
    w.behind[request] = -1
    if s.tail >= 0:
        w.behind[s.tail] = request
    else:
        s.head = request
    s.tail = request
    s.waiting += 1
    if s.end == NEVER:
        s.start = s.end = s.t = max(time, s.t)
        s.k = 0
    elif r.lag and s.running:
        boundary = int(r.lag + 0.5 * (request % 2))
        if s.k:
            boundary += min(steps_until(time - s.start, s.u, s.v), s.k)
        w.eligible[request] = s.clock + boundary
        s.latest = max(s.latest, s.clock + boundary)
        if boundary < s.k and (s.held or (s.room and alone)):
            cut_at(s, boundary)
    elif s.k > 1 and (s.held or (s.room and alone)):
        boundary = steps_until(time - s.start, s.u, s.v)
        if boundary < s.k:
            cut_at(s, boundary)


# Planning ------------------------------------------------------------------------------------------------------------


@kernel
def plan(w: World, s: Record) -> None:
    """As `Engine.plan`: form the next run at the boundary `t`."""
    r = w.rules[0]
    s.start = s.t
    s.chunks = s.room = s.held = 0
    separate = r.prompts == PREFILL_FIRST
    need = needs(w, s, 1) if r.grows and s.n else 0.0
    short = need > s.free
    if short:
        need = make_room(w, s)
    left = r.token_budget - (0.0 if separate else s.n * r.width)
    node = s.first_prompt
    while node >= 0:
        p = w.nodes[node]
        tokens = min(p.remaining, left, r.longest_chunk)
        if tokens <= 0:
            break
        p.chunk = tokens
        s.chunks += 1
        left -= tokens
        node = p.after
    horizon = r.longest_run
    if short:
        horizon = 1
    elif left > 0 and s.running < r.slots:
        if s.waiting:
            horizon, left = admit(w, s, left, need, horizon)
        s.room = left > 0 and s.running < r.slots
    if not s.running:
        s.end, s.k = NEVER, 0
        return
    form(w, s, 0 if separate and s.chunks else s.n, horizon)


@kernel
def form(w: World, s: Record, n: int, horizon: int) -> None:
    """The time of an iteration of `n` decoding sequences and the chunks, and how many are alike."""
    r = w.rules[0]
    s.moving = n
    rise = s.n * r.growth
    context = s.offset + rise * (s.step + 1) if n else 0.0
    s.context = context
    i = 0
    while context > w.pieces[n, i, 0]:
        i += 1
    bend, u, v = w.pieces[n, i, 0], w.pieces[n, i, 1], w.pieces[n, i, 2]
    u += v * context
    v *= rise
    k = horizon
    if n:
        k = min(k, (w.keys[s.heap] >> SHIFT) - s.step)
        if bend < NEVER and rise:
            k = min(k, int((bend - context) // rise) + 1)
        if k > 1 and r.grows and rise * (k // r.block + 1) > s.free:
            k = min(k, iterations_that_fit(w, s))
    if s.chunks:
        added, rising = prompt_times(w, s, n)
        u, v = u + added, v + rising
        node = s.first_prompt
        for _ in range(s.chunks if k > 1 else 0):
            p = w.nodes[node]
            k = min(k, int(p.remaining // p.chunk))
            node = p.after
    if s.copying:
        u, k, s.copying = u + s.copying, 1, 0.0
    s.used = r.capacity - s.free
    s.u, s.v, s.k = u, v, k
    s.end = s.t + (k * u + v * (k * (k - 1) // 2))


# Admission -----------------------------------------------------------------------------------------------------------


@kernel
def admit(w: World, s: Record, left: float, need: float, horizon: int) -> tuple[int, float]:
    """As `Engine._admit`: let requests in from the head of the queue.

    Returns: iterations after which a further one might enter by itself, and tokens left.
    """
    r = w.rules[0]
    if not s.running:
        s.clock = max(s.clock, s.latest)
    holding = r.wait_steps and s.n and s.waited < r.wait_steps and not s.prompts
    kept = PART * (r.growth * (s.outstanding - s.n * s.step) + s.promised) if r.part else 0.0
    before, entered, tokens = left, 0, 0.0
    while s.waiting and left > 0 and s.running < r.slots:
        node, request = s.stack, s.head
        if node < 0:
            if r.lag and w.eligible[request] > s.clock:
                horizon = min(horizon, w.eligible[request] - s.clock)
                break
            prompt, output, hit = w.prompts[request], w.outputs[request], w.hits[request] if r.hits else 0
        else:
            p = w.nodes[node]
            if p.ready:
                private, now = blocks_of(p.context, r.block), ready_needs(r, p)
                if private + now - (s.free - need) > 0:
                    horizon = 1 if r.part and r.block > 1 else horizon
                    break
                join_ready(w, s, node, private)
                need += now
                left -= 0.0 if r.prompts == PREFILL_FIRST else r.width
                continue
            prompt, output = p.prompt, p.output
            hit = w.hits[p.request] if r.hits and not p.redo else 0
        compute = float(prompt - hit)
        if compute > left and s.running and not may_be_cut(r, s):
            break
        private = blocks_of(float(prompt if r.grows else prompt + output), r.block)
        missing = private
        if s.running:
            missing += (kept + PART * output) / r.block + r.watermark if r.part else r.watermark
        missing -= s.free - need
        if missing > 0:
            if r.part and r.block > 1:
                horizon = 1  # the promise falls with every token, what is free only with every block
            break
        node = enter(w, s, prompt, output, compute, min(compute, left, r.longest_chunk))
        s.free -= private
        entered += 1
        left -= w.nodes[node].chunk
        tokens += compute
        kept += PART * output
    if holding and entered and tokens + s.n * r.width < r.wait_frac * r.token_budget:
        for _ in range(entered):
            withdraw(w, s)
        s.held = 1
        # In a cache that fills, who could enter may change with every iteration.
        return (1 if r.grows else min(horizon, r.wait_steps - s.waited)), before
    if entered:
        s.waited = 0
    return horizon, left


@kernel
def may_be_cut(r: Record, s: Record) -> bool:
    """Whether a prompt longer than the budget left may start now."""
    return r.prompts != WHOLE and (r.prompts != PREFILL_FIRST or not s.prompts)


@kernel
def enter(w: World, s: Record, prompt: int, output: int, compute: float, chunk: float) -> int:
    """The head of the queue runs from now on; returns its node."""
    node = s.stack
    if node >= 0:
        p = w.nodes[node]
        s.stack = p.after
    else:
        node = new_node(w, s)
        p = w.nodes[node]
        p.request, p.prompt, p.output, p.redo, p.ready, p.decoding = s.head, prompt, output, 0, 0, 0
        s.head = w.behind[p.request]
        if s.head < 0:
            s.tail = -1
    s.waiting -= 1
    p.remaining, p.chunk = compute, chunk
    add_running(w, s, node)
    add_prompt(w, s, node)
    s.chunks += 1
    s.promised += output
    if w.admitted[p.request] != w.admitted[p.request]:
        w.admitted[p.request] = s.t
    return node


@kernel
def withdraw(w: World, s: Record) -> None:
    """Undo the last admission of this boundary."""
    node = s.last_prompt  # swapped ones may have joined after it
    p = w.nodes[node]
    if w.admitted[p.request] == s.t:
        w.admitted[p.request] = math.nan
    forget(w, s, node)
    s.chunks -= 1
    p.after = s.stack
    s.stack = node
    s.waiting += 1


@kernel
def ready_needs(r: Record, p: Record) -> float:
    """Blocks that a swapped request takes in the next iteration."""
    if r.block == 1:
        return r.growth
    return 1.0 if int(p.context) % r.block == 0 else 0.0


@kernel
def join_ready(w: World, s: Record, node: int, blocks: float) -> None:
    """A swapped request, the head of the queue, joins the batch again."""
    p = w.nodes[node]
    left = p.output
    s.stack = p.after
    s.waiting -= 1
    s.free -= blocks
    s.copying += p.loading
    p.ready, p.redo = 0, 0
    p.prompt, p.output = int(p.context + EPSILON), left + 1
    add_running(w, s, node)
    if w.admitted[p.request] != w.admitted[p.request]:
        w.admitted[p.request] = s.t
    join(w, s, node, p.context, left)
