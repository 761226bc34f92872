"""One module per chapter, imported by the notebooks alone.

A module that only runs draws nothing, so that a change of a figure makes no run stale.
"""

from metastyle.config import Project
from metastyle.core import device
from metastyle.evaluation.machine import versions


def begin(params: str) -> Project:
    """Open a notebook: its project, after a line that says what it runs on."""
    device.use(project := Project(params))
    print(versions())
    return project
