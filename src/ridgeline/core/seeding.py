"""Random streams by name: what one component draws does not depend on which others exist."""

from __future__ import annotations

import hashlib
import operator

import numpy as np

from ridgeline.core.errors import DomainError


def stream(seed: int, name: str) -> np.random.Generator:
    """The generator of the component called `name` in the run with that seed.

    The name becomes the spawn key of a SeedSequence, so that streams are independent of each other and of the order in
    which they are asked for, and equal on every machine and in every process.

    Source: numpy's SeedSequence (after O'Neill, "Developing a seed_seq alternative", 2015) and PCG64.
    Raises:
        DomainError: a seed that is not a whole number >= 0.
    """
    try:
        entropy = operator.index(seed)
    except TypeError:
        entropy = -1
    if entropy < 0:
        raise DomainError("a seed is a whole number >= 0", at="seed", got=seed, fix="give for example 0")
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    key = tuple(int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy, spawn_key=key)))
