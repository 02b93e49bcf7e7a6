"""Deployments as files: what a case says, written as the launch files of an engine or a cluster, and read back.

It promises that each decision of a case stands in the files or in a named note, that texts of others are data (quoted
on the way out, never run or expanded by a shell on the way in), and that every flag is one of a stated release.
It does not know how to route requests or where machines stand. Read `deployment.py` first (what is deployed), then
`scripts.py` (one way out) and `commands.py` (the way back). Flags live in `engines/*.yaml`, cluster facts in
`cluster.yaml`.
"""

from ridgeline.serving.launch.deployment import Launch, Note, Pool, launch_of
from ridgeline.serving.launch.found import Reading
from ridgeline.serving.launch.reading import is_command, is_launch_file, read_launch
from ridgeline.serving.launch.targets import LaunchFiles, target_names, write_launch

__all__ = [
    "Launch",
    "LaunchFiles",
    "Note",
    "Pool",
    "Reading",
    "is_command",
    "is_launch_file",
    "launch_of",
    "read_launch",
    "target_names",
    "write_launch",
]
