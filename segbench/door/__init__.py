"""segbench from Python: the same requests, engine, rules and store as the command line.

Reached as ``segbench.evaluate``, ``segbench.attack`` and so on; see :mod:`segbench`.
"""

from segbench.data.in_memory import InMemory
from segbench.door.attacking import attack
from segbench.door.certifying import certify
from segbench.door.evaluating import Result, evaluate
from segbench.door.registering import register_attack, register_dataset, register_model

__all__ = [
    "InMemory",
    "Result",
    "attack",
    "certify",
    "evaluate",
    "register_attack",
    "register_dataset",
    "register_model",
]
