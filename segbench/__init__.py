"""segbench: how wrong can a biomedical segmentation network be made, and is it getting worse?

The contracts are in :mod:`segbench.api`; everything a plug-in needs is there.
"""

__version__ = "0.1.0"
