"""Loss from parameters and tokens by published scaling laws, and the best split of a budget of operations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from ridgeline.core.errors import DomainError, SpecError
from ridgeline.core.files import parse_yaml
from ridgeline.core.names import Names
from ridgeline.workloads.ops import Dim

Column = NDArray[np.float64]

FLOPS_PER_PARAMETER_TOKEN = 6.0
"""Forward and backward pass (Kaplan et al., arXiv 2001.08361, section 2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """floor + a / N^alpha + b / D^beta."""

    name: str
    floor: float
    a: float
    b: float
    alpha: float
    beta: float
    source: str

    def loss(self, parameters: Dim, tokens: Dim) -> Column:
        """Nats per token. Raises DomainError: a size that is not above 0."""
        n, d = np.asarray(parameters, float), np.asarray(tokens, float)
        if not (np.all(n > 0) and np.all(d > 0)):
            raise DomainError("parameters and tokens are above 0", at="loss", got=(parameters, tokens))
        return np.asarray(self.floor + self.a / n**self.alpha + self.b / d**self.beta)

    def optimum(self, flops: Dim) -> tuple[Column, Column]:
        """Parameters and tokens of least loss for 6 N D operations (arXiv 2203.15556, equation 4)."""
        budget = np.asarray(flops, float) / FLOPS_PER_PARAMETER_TOKEN
        if not np.all(budget > 0):
            raise DomainError("a budget of operations is above 0", at="flops", got=flops)
        total = self.alpha + self.beta
        scale = (self.alpha * self.a / (self.beta * self.b)) ** (1.0 / total)
        parameters = scale * budget ** (self.beta / total)
        return np.asarray(parameters), np.asarray(budget / parameters)


@cache
def _laws() -> tuple[dict[str, Law], Names, str]:
    source = resources.files("ridgeline.training") / "scaling_laws.yaml"
    if not source.is_file():
        raise SpecError("scaling_laws.yaml is missing", at="ridgeline/training", fix="reinstall ridgeline")
    data = parse_yaml(source.read_text("utf-8"), name=source.name).data
    keys = ("floor", "a", "b", "alpha", "beta", "source")
    laws = {name: Law(name=name, **{key: entry[key] for key in keys}) for name, entry in data["laws"].items()}
    return laws, Names("scaling law", {n: entry["aliases"] for n, entry in data["laws"].items()}), data["default"]


def law(name: str = "") -> Law:
    """The law of that name ("": the default). Raises UnknownNameError with the nearest names."""
    laws, names, default = _laws()
    return laws[names.resolve(name, at="law") if name else default]
