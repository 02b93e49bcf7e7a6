"""What every layer shares and no field knows: units, dtypes, names, errors, files, tables, seeding.

Imports nothing of ridgeline above it. Read `errors.py` first, then `files.py` (the one strict loader).
"""
