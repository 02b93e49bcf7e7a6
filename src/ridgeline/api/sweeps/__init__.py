"""Many points, by workers or by optimisers."""
