"""JupyterLab for `make lab`: a saved notebook keeps no outputs but those of its check cells.

The pipeline's stages depend on the source notebooks; without this, running one and saving it
(JupyterLab does so by itself) would make its stage run again.
"""

import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from refresh_notebooks import source_form


def keep_sources(model, **_):
    if model["type"] == "notebook":
        model["content"] = source_form(nbformat.from_dict(model["content"]))


c = get_config()  # noqa: F821 (Jupyter provides it)
c.ContentsManager.pre_save_hook = keep_sources
