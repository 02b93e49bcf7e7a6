"""What all studies share: what a claim is, how it is judged, where studies are found, and how they are shown."""

from ridgeline.studies.frame.cluster import setup_on
from ridgeline.studies.frame.shelf import find, names
from ridgeline.studies.frame.study import Assumption, Claim, Figure, Outcome, Study, Verdict
from ridgeline.studies.frame.sweep import play, sweep, sweep_some, tail
from ridgeline.studies.frame.trial import Judged, Trial, trial
from ridgeline.studies.frame.usual import HOST_PER_KERNEL

__all__ = [
    "HOST_PER_KERNEL",
    "Assumption",
    "Claim",
    "Figure",
    "Judged",
    "Outcome",
    "Study",
    "Trial",
    "Verdict",
    "find",
    "names",
    "play",
    "setup_on",
    "sweep",
    "sweep_some",
    "tail",
    "trial",
]
