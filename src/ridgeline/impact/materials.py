"""Elements in accelerator modules, by mass."""

from __future__ import annotations

from ridgeline.core.errors import DomainError
from ridgeline.impact.quantity import Quantity
from ridgeline.impact.sheets import fact, sheet


def elements_kg(modules: float) -> dict[str, Quantity]:
    """Mass of each element in a number of modules with their coolers, kg; what is not listed is `other`.

    Args: modules: may be a fraction: the share of a module's life that a job takes.
    Raises: DomainError: a negative number.
    """
    if not modules >= 0:
        raise DomainError("a number of modules is >= 0", at="modules", got=modules, fix="give chips, or chip lifetimes")
    mass = fact("materials", "module_mass", "kg").quantity * modules
    document = sheet("materials")
    shares = {str(name): float(share) for name, share in document.need("elements", "rows", kind=dict).items()}
    shares[document.need("elements", "remainder", kind=str)] = 1.0 - sum(shares.values())
    return {name: mass * share for name, share in shares.items()}
