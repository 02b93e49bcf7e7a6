"""One case, predicted, explained, compared and checked for plausibility."""
