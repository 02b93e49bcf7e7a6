"""Predictions beside measurements, and the fits that need whole predictions."""
