"""Requests for a serving simulator: from traces, from traffic files, or drawn from laws of arrivals and lengths.

Promises a `Traffic`: columns in the order of arrival, checked, the same bytes for the same seed; rows of a trace that
could not be used are named and counted. Knows nothing of models, chips or service times: a request that waits for
another says after which and how long, and the simulator finds when. Read `requests.py` first, then `spec.py`; formats
of traces are in `readers/`, one file each.
"""

from ridgeline.workloads.traffic.arrivals import Arrivals, parse_arrivals
from ridgeline.workloads.traffic.lengths import Law, empirical, fixed, parse_law
from ridgeline.workloads.traffic.mixing import mix
from ridgeline.workloads.traffic.readers import FORMATS, read_trace
from ridgeline.workloads.traffic.requests import RequestClass, Traffic
from ridgeline.workloads.traffic.sessions import Sessions
from ridgeline.workloads.traffic.spec import load_traffic, make_traffic
from ridgeline.workloads.traffic.summary import Lengths, Summary

__all__ = [
    "FORMATS",
    "Arrivals",
    "Law",
    "Lengths",
    "RequestClass",
    "Sessions",
    "Summary",
    "Traffic",
    "empirical",
    "fixed",
    "load_traffic",
    "make_traffic",
    "mix",
    "parse_arrivals",
    "parse_law",
    "read_trace",
]
