"""What counts as a change of code: comments and docstrings are free, a constant is not."""

import ast
import io
import json
import shutil
import tokenize

import pytest
from conftest import ROOT

from metastyle.core import code
from metastyle.pipeline.code import describe, stages

SOURCE = '''"""A module."""

LIMIT = 3  # of everything


def twice(x):
    """Two times x,

    with a blank line.
    """
    text = "# no comment"  # but this is one
    return 2 * x, text, """not a docstring"""
'''


def test_comments_docstrings_and_blank_lines_are_cut_and_nothing_else():
    cut = code.executed(SOURCE)
    assert cut.splitlines() == [
        "LIMIT = 3",
        "def twice(x):",
        '    text = "# no comment"',
        '    return 2 * x, text, """not a docstring"""',
    ]
    longer = SOURCE.replace("Two times x", "Twice x").replace("# of everything", "# of all\n")
    assert code.executed(longer) == cut
    assert code.executed(SOURCE.replace("LIMIT = 3", "LIMIT = 4")) != cut


def tokens(source: str) -> list[str]:
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    read = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in read if token.type not in ignored]


def test_nothing_else_is_cut_from_the_library():
    for file in (ROOT / "metastyle").rglob("*.py"):
        source = file.read_text()
        before, after = tokens(source), tokens(code.executed(source))
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
        docstrings = [n for n in nodes if ast.get_docstring(n, clean=False) is not None]
        assert len(before) - len(after) == len(docstrings), file.name
        left = iter(before)
        assert all(token in left for token in after), file.name  # the same order


def test_blank_lines_of_a_string_are_its_own():
    two = 'x = """a\n\n   b  \n"""\n'
    assert code.executed(two) == two
    assert code.executed(two) != code.executed(two.replace("\n\n", "\n"))


def test_closure_follows_imports_and_a_registry():
    files = {f.stem for f in code.closure(["metastyle.core.losses"])}
    assert {"losses", "kernels", "vgg", "network", "config"} <= files
    assert not files & {"train", "plots", "cli"}
    registry = ["metastyle.baselines.registry"]
    everything = {f.stem for f in code.closure(registry)}
    assert {"gatys", "shen", "_hypernetwork"} <= everything
    only = {f.stem for f in code.closure(registry, by_name=["gatys"])}
    assert "gatys" in only and not only & {"shen", "_hypernetwork"}


def test_a_digest_is_of_modules_that_exist():
    assert code.digest("metastyle.core.losses") != code.digest("metastyle.core.images")
    with pytest.raises(ValueError, match=r"metastyle\.core\.loses"):
        code.digest("metastyle.core.loses")


@pytest.fixture
def copy(tmp_path):
    """The library, the notebooks and the pipeline, to be changed."""
    for name in ("metastyle", "notebooks", "params"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def described(root):
    return {stage.name: describe(stage, root) for stage in stages(root)}


def test_a_changed_constant_concerns_the_stages_that_import_it(copy):
    before = described(copy)
    losses = copy / "metastyle" / "core" / "losses.py"
    losses.write_text("# A comment.\n" + losses.read_text().replace('"""The perc', '"""A perc'))
    assert described(copy) == before
    losses.write_text(losses.read_text().replace("1 / 255", "2 / 255"))
    after = described(copy)
    changed = {name for name in before if before[name] != after[name]}
    using = {name for name in before if "metastyle/core/losses.py" in before[name]}
    assert changed == using
    assert "meta_train" in changed and "data" not in changed


def test_a_notebook_saved_by_another_editor_is_the_same(copy):
    before = described(copy)
    for path in (copy / "notebooks").glob("*.ipynb"):
        notebook = json.loads(path.read_text())
        notebook["metadata"]["editor"] = {"theme": "dark"}
        for k, cell in enumerate(notebook["cells"]):
            cell["metadata"]["collapsed"] = True
            if cell["cell_type"] == "code":
                cell["execution_count"] = k
                cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x"}]
        path.write_text(json.dumps(notebook, indent=3))
    assert described(copy) == before


def test_prose_counts_in_a_chapter_and_not_in_a_run(copy):
    before = described(copy)
    for name in ("02a_meta_train", "08_pixels"):
        path = copy / "notebooks" / f"{name}.ipynb"
        notebook = json.loads(path.read_text())
        notebook["cells"][0]["source"] = ["# Another title"]
        path.write_text(json.dumps(notebook))
    after = described(copy)
    assert {name for name in before if before[name] != after[name]} == {"pixels"}
