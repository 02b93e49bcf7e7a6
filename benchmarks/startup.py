"""How long a person waits for `ridgeline --help` and for `import ridgeline`, beside a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from _timing import measure, report

HELP_GOAL_S = 0.5


def python(code: str) -> Callable[[], object]:
    """A call that runs `code` in a fresh interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    bare = measure(python("pass"), repeats=7)
    report("bare interpreter", bare)
    report("import numpy", measure(python("import numpy"), repeats=7), reference=bare)
    report("import ridgeline", measure(python("import ridgeline"), repeats=7), reference=bare)
    code = "import sys; from ridgeline.apps.cli import main; sys.argv = ['ridgeline', '--help']; main()"
    report("ridgeline --help", measure(python(code), repeats=7), goal_s=HELP_GOAL_S, reference=bare)


if __name__ == "__main__":
    main()
