"""Training runs: layouts, budgets, offload, failures, the drawn pipeline."""
