"""How a chapter ends: its claims, written to results and shown as sentences."""

from collections.abc import Sequence

from IPython.display import Markdown

from metastyle.config import Project
from metastyle.evaluation.claims import Row, sentences, write


def report(project: Project, chapter: str, rows: Sequence[Row]) -> Markdown:
    """Write a chapter's claims, and show them."""
    return Markdown(sentences(write(project, chapter, rows)))
