"""One module per chapter, imported by the notebooks alone.

A module that only runs draws nothing, so that a change of a figure makes no run stale.
"""

from collections.abc import Sequence

from IPython.display import Markdown

from metastyle.config import Project
from metastyle.evaluation.claims import Row, sentences, write
from metastyle.evaluation.timing import versions


def begin(params: str) -> Project:
    """Open a notebook: its project, after a line that says what it runs on."""
    print(versions())
    return Project(params)


def report(project: Project, chapter: str, rows: Sequence[Row]) -> Markdown:
    """Write a chapter's claims, and show them as sentences."""
    return Markdown(sentences(write(project, chapter, rows)))
