"""What the training layers need to know of a machine, for studies that call their parts instead of `sweep`."""

from __future__ import annotations

from ridgeline.hardware import machine
from ridgeline.hardware.chip import ChipColumns
from ridgeline.training.links import links_of
from ridgeline.training.profile import coefficients, profile, recipe
from ridgeline.training.setup import Host, Setup


def setup_on(
    on: str, *, framework: str = "megatron", precision: str = "bf16", network: float = 1.0, host: Host | None = None
) -> Setup:
    """Chips, links and coefficients of a machine.

    Args:
        on: machines, as "8x h100-sxm".
        framework: as of `predict training`.
        precision: the same.
        network: share of its rate that the outermost level of links has.
        host: what lies beyond the chip, if the study moves anything there.
    Raises: UnknownNameError; DomainError: a share that cannot be.
    """
    whole = machine(on)
    assert whole.node is not None, "chips of the catalogue have nodes"
    links = links_of([whole.node])
    return Setup(
        chips=ChipColumns((whole.chip,)),
        links=links if network == 1.0 else links.slowed(len(whole.node.levels) - 1, network),
        profile=profile(framework),
        recipe=recipe(precision),
        coefficients=coefficients(),
        host=host or Host(),
    )
