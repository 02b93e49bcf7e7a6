"""What computing costs the world and its owner: watts around the chip, carbon, water, materials and money.

It reads facts of hardware and timelines as data, and knows no workload. `scopes.py` follows power from the chip to the
meter of the site; `facility.py`, `carbon.py`, `embodied.py`, `water.py`, `materials.py` and `money.py` count what comes
of it; `account.py` puts one account together. `hourly.py`, `shifting.py` and `row.py` are about time: series of a grid,
loads that may move, rows under power limits. Facts with their sources are in `facts/*.yaml`; a number that nobody
published is `kind: assumed` there. Ranges are bounds that the sources give, combined as if all were met at once.

It does not know market-based emissions (certificates), and what software or networks outside the machines consume.
Read `quantity.py` and `sheets.py` first.
"""

from ridgeline.impact.account import Account, account
from ridgeline.impact.carbon import Grid, grid, grid_names
from ridgeline.impact.embodied import embodied_carbon, server_embodied_carbon
from ridgeline.impact.facility import COOLING, overhead
from ridgeline.impact.hourly import Hourly, read_hourly
from ridgeline.impact.money import Prices, break_even_utilisation, owning_usd_per_s, read_prices
from ridgeline.impact.quantity import Quantity
from ridgeline.impact.scopes import ServerPower, server_power

__all__ = [
    "COOLING",
    "Account",
    "Grid",
    "Hourly",
    "Prices",
    "Quantity",
    "ServerPower",
    "account",
    "break_even_utilisation",
    "embodied_carbon",
    "grid",
    "grid_names",
    "overhead",
    "owning_usd_per_s",
    "read_hourly",
    "read_prices",
    "server_embodied_carbon",
    "server_power",
]
