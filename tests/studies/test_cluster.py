"""What studies of training know of a machine."""

from __future__ import annotations

import pytest

from ridgeline.core.errors import DomainError
from ridgeline.studies.frame import setup_on


def test_a_slower_network_slows_what_crosses_nodes_and_nothing_else() -> None:
    full, half = setup_on("8x h100-sxm"), setup_on("8x h100-sxm", network=0.5)
    inside, across = ((block, block) for block in (8.0, 64.0))
    assert half.links.direct_bytes_per_s(*inside) == full.links.direct_bytes_per_s(*inside)
    assert half.links.direct_bytes_per_s(*across) == pytest.approx(full.links.direct_bytes_per_s(*across) / 2)


def test_a_network_has_a_share_above_nothing() -> None:
    with pytest.raises(DomainError):
        setup_on("8x h100-sxm", network=0.0)
