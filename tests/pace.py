"""How much slower this process runs than a user's: limits on processor time are multiplied by it."""

from __future__ import annotations

import sys

PACE = 1.0 if sys.gettrace() is None else 4.0
"""Coverage traces every line; on cores that two workers share, the slowest tests took up to three times as long."""
