"""How the pieces of a grid are worked off: one file each, behind one Protocol.

Whatever the executor, the rows are equal, because a piece depends on nothing but itself.
"""

from segbench.evaluation.executors.executor import Executor, Told
from segbench.evaluation.executors.local import Local

__all__ = ["Executor", "Local", "Told"]
