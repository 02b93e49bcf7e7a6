"""Repeatable fits of cost coefficients to measured tables; needs the `fit` extra (scipy)."""
