"""The batch of a compiled lane: its heap of finish keys, its lists of nodes, its cache, who joins and who leaves."""

from __future__ import annotations

import math

from ridgeline.serving.compiled.state import Record, World, kernel
from ridgeline.serving.engine.batch import EPSILON, MASK, SHIFT

# The heap of finish keys ---------------------------------------------------------------------------------------------


@kernel
def heap_push(w: World, s: Record, key: int, node: int) -> None:
    """A sequence will finish."""
    keys, places, top = w.keys, w.places, s.heap
    i = s.heaped
    s.heaped = i + 1
    while i > 0:
        parent = (i - 1) >> 1
        if keys[top + parent] <= key:
            break
        keys[top + i], places[top + i] = keys[top + parent], places[top + parent]
        i = parent
    keys[top + i], places[top + i] = key, node


@kernel
def heap_pop(w: World, s: Record) -> None:
    """The smallest key leaves."""
    keys, places, top = w.keys, w.places, s.heap
    size = s.heaped - 1
    s.heaped = size
    key, node = keys[top + size], places[top + size]
    i = 0
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and keys[top + child + 1] < keys[top + child]:
            child += 1
        if keys[top + child] >= key:
            break
        keys[top + i], places[top + i] = keys[top + child], places[top + child]
        i = child
    keys[top + i], places[top + i] = key, node


@kernel
def is_live(w: World, s: Record) -> bool:
    """Whether the smallest key still belongs to a sequence that decodes."""
    key, p = w.keys[s.heap], w.nodes[w.places[s.heap]]
    return p.decoding == 1 and p.request == key & MASK and p.key == key >> SHIFT


@kernel
def compact(w: World, s: Record) -> None:
    """Keys of sequences that left early fill the heap: it is made anew."""
    s.heaped = 0
    node = s.oldest
    while node >= 0:
        p = w.nodes[node]
        if p.decoding:
            heap_push(w, s, p.key << SHIFT | p.request, node)
        node = p.newer


# Lists of nodes ------------------------------------------------------------------------------------------------------


@kernel
def new_node(w: World, s: Record) -> int:
    """A node that is not in use; a lane never needs more than it has slots."""
    node = s.spare
    if node >= 0:
        s.spare = w.nodes[node].after
    else:
        node = s.nodes + s.taken
        s.taken += 1
    return node


@kernel
def add_running(w: World, s: Record, node: int) -> None:
    """The youngest that runs."""
    p = w.nodes[node]
    p.older, p.newer = s.youngest, -1
    if s.youngest >= 0:
        w.nodes[s.youngest].newer = node
    else:
        s.oldest = node
    s.youngest = node
    s.running += 1


@kernel
def drop_running(w: World, s: Record, node: int) -> None:
    """It runs no more."""
    p = w.nodes[node]
    if p.older >= 0:
        w.nodes[p.older].newer = p.newer
    else:
        s.oldest = p.newer
    if p.newer >= 0:
        w.nodes[p.newer].older = p.older
    else:
        s.youngest = p.older
    s.running -= 1


@kernel
def add_prompt(w: World, s: Record, node: int) -> None:
    """The last of those that prefill."""
    p = w.nodes[node]
    p.before, p.after = s.last_prompt, -1
    if s.last_prompt >= 0:
        w.nodes[s.last_prompt].after = node
    else:
        s.first_prompt = node
    s.last_prompt = node
    s.prompts += 1


@kernel
def drop_prompt(w: World, s: Record, node: int) -> None:
    """It prefills no more."""
    p = w.nodes[node]
    if p.before >= 0:
        w.nodes[p.before].after = p.after
    else:
        s.first_prompt = p.after
    if p.after >= 0:
        w.nodes[p.after].before = p.before
    else:
        s.last_prompt = p.before
    s.prompts -= 1


# Cache ---------------------------------------------------------------------------------------------------------------


@kernel
def blocks_of(tokens: float, block: int) -> float:
    """Blocks that hold so many tokens."""
    if block == 1:
        return tokens
    return float(-(-int(tokens) // block))


@kernel
def fits(r: Record, prompt: int, output: int) -> bool:
    """As `Engine.fits`."""
    tokens = prompt + output - 1 if r.grows else prompt + output
    return blocks_of(float(tokens), r.block) <= r.capacity


@kernel
def needs(w: World, s: Record, k: int) -> float:
    """Blocks that decoding takes in the next `k` iterations."""
    r = w.rules[0]
    if r.block == 1:
        return k * s.n * r.growth
    total = s.n * (k // r.block)
    i, top = s.step % r.block, s.index * r.block
    for _ in range(k % r.block):
        total += w.residues[top + i]
        i += 1
        if i == r.block:
            i = 0
    return float(total)


@kernel
def iterations_that_fit(w: World, s: Record) -> int:
    """Iterations until the cache is short of blocks."""
    r = w.rules[0]
    if not s.n:
        return r.longest_run
    if r.block == 1:
        return int(s.free // (s.n * r.growth))
    cycles = int(s.free // s.n)
    k, free = cycles * r.block, s.free - cycles * s.n
    i, top = s.step % r.block, s.index * r.block
    for _ in range(r.block):
        free -= w.residues[top + i]
        if free < 0:
            break
        k += 1
        i += 1
        if i == r.block:
            i = 0
    return k


@kernel
def held(r: Record, s: Record, p: Record) -> float:
    """Blocks that a running request holds."""
    if not r.grows:
        return blocks_of(float(p.prompt + p.output), r.block)
    if not p.decoding:
        return blocks_of(float(p.prompt), r.block)
    return blocks_of(p.base + r.growth * s.step, r.block)


@kernel
def forget(w: World, s: Record, node: int) -> tuple[float, int]:
    """A running request gives back what it holds: its context and the tokens it has emitted since admission."""
    r, p = w.rules[0], w.nodes[node]
    s.free += held(r, s, p)
    context, emitted = 0.0, 0
    if not p.decoding:
        s.promised -= p.output
        drop_prompt(w, s, node)
    else:
        context = p.base + r.growth * s.step
        left = p.output - 1
        emitted = 1 + max(int(left - (p.key - s.step) * r.growth + EPSILON), 0)
        leave_batch(w, s, p)
        while s.heaped and not is_live(w, s):
            heap_pop(w, s)
    drop_running(w, s, node)
    return context, emitted


@kernel
def make_room(w: World, s: Record) -> float:
    """Preempt until the next iteration's blocks are there; returns how many it needs."""
    r = w.rules[0]
    need = needs(w, s, 1)
    while need > s.free:
        node = s.youngest
        p = w.nodes[node]
        decoding, blocks = p.decoding, held(r, s, p)
        context, emitted = forget(w, s, node)
        if emitted:
            p.redo = 1
            p.prompt += emitted
            p.output -= emitted
        if decoding and r.swap:
            p.ready, p.context, p.loading = 1, context, blocks * r.copy_s
            s.copying += p.loading
        p.after = s.stack
        s.stack = node
        s.waiting += 1
        s.preempted += 1
        w.preempted[p.request] += 1
        need = needs(w, s, 1)
    return need


# The batch -----------------------------------------------------------------------------------------------------------


@kernel
def join(w: World, s: Record, node: int, context: float, left: int) -> None:
    """A sequence with that context and `left` tokens to emit after its last one decodes from the next iteration."""
    r, p = w.rules[0], w.nodes[node]
    steps = left if r.growth == 1.0 else math.ceil(left / r.growth - EPSILON)
    if s.heaped == r.heap:
        compact(w, s)
    p.base, p.key, p.decoding = context - r.growth * s.step, s.step + steps, 1
    heap_push(w, s, p.key << SHIFT | p.request, node)
    s.n += 1
    s.outstanding += p.key
    s.offset += p.base
    if r.block > 1:
        w.residues[s.index * r.block + int(-p.base) % r.block] += 1


@kernel
def leave_batch(w: World, s: Record, p: Record) -> None:
    """A sequence decodes no more."""
    r = w.rules[0]
    s.n -= 1
    s.outstanding -= p.key
    s.offset -= p.base
    p.decoding = 0
    if r.block > 1:
        w.residues[s.index * r.block + int(-p.base) % r.block] -= 1


@kernel
def depart(w: World, s: Record, node: int, seen: float, done: int) -> int:
    """A request is complete."""
    p = w.nodes[node]
    drop_running(w, s, node)
    w.last[p.request] = seen
    w.done[done] = p.request
    p.after = s.spare
    s.spare = node
    return done + 1


@kernel
def emit_first(w: World, s: Record, node: int, seen: float, done: int) -> int:
    """A prompt is complete: its first token is out, and it decodes or leaves."""
    p = w.nodes[node]
    drop_prompt(w, s, node)
    s.promised -= p.output
    if w.first[p.request] != w.first[p.request]:
        w.first[p.request] = seen
    if p.output > 1:
        join(w, s, node, float(p.prompt), p.output - 1)
        return done
    s.free += held(w.rules[0], s, p)
    return depart(w, s, node, seen, done)
