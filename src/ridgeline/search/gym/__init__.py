"""Design problems as environments: Gymnasium for one agent, PettingZoo for several that each own some axes.

`environment.py` is the single-agent form, `parallel.py` the multi-agent one; `reward.py` says how good a design is in
one number. Importing this package registers `ridgeline/Search-v0`, so that
`gymnasium.make("ridgeline.search.gym:ridgeline/Search-v0", problem=...)` works. Needs the extra `search`.
"""

from ridgeline.core.errors import MissingExtraError

try:
    import gymnasium
    import pettingzoo  # noqa: F401 - absent or present together, so that both are missed at once
except ImportError as error:
    fix = "pip install ridgeline[search]"
    raise MissingExtraError("environments need gymnasium and pettingzoo", at="ridgeline.search.gym", fix=fix) from error

from ridgeline.search.gym.environment import SearchEnv
from ridgeline.search.gym.parallel import ParallelSearchEnv
from ridgeline.search.gym.reward import Reward

__all__ = ["ParallelSearchEnv", "Reward", "SearchEnv"]

NAME = "ridgeline/Search-v0"

if NAME not in gymnasium.registry:
    gymnasium.register(id=NAME, entry_point="ridgeline.search.gym.environment:SearchEnv")
