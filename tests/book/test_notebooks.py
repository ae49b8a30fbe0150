"""Every notebook: its form, and a run of it alone in an empty folder."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import fold  # noqa: E402
import portable  # noqa: E402
import sync  # noqa: E402

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
COMPARED = "nbval-check-output"
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


def tags(cell):
    return cell.metadata.get("tags", [])


def test_table_of_contents_names_every_notebook_and_no_other():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [toc["root"]] + [c["file"] for part in toc["parts"] for c in part["chapters"]]
    assert len(listed) == len(set(listed))
    pages = {f"book/{p.stem}" for p in (ROOT / "book").iterdir() if p.suffix in (".ipynb", ".md")}
    assert set(listed) == pages


def test_generated_parts_are_in_step():
    check = subprocess.run(
        [sys.executable, "tools/sync.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stdout + check.stderr


@each
def test_form(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "course-setup" in tags(code[0]), "the first code cell is the setup cell"
    assert sum("course-header" in tags(cell) for cell in notebook.cells) == 1
    assert code[1].source.startswith(("import ", "from ")), "imports come right after the setup"
    only_draw = fold.folded(notebook.cells)
    for number, cell in enumerate(notebook.cells):
        hidden = {tag for tag in tags(cell) if tag.startswith(("hide-", "remove-"))}
        if "course-header" in tags(cell):
            assert hidden == {"remove-cell"}
        elif cell is code[0]:
            assert hidden == {"hide-cell"}
        elif number in only_draw:
            assert hidden == {fold.FOLDED}
        else:
            assert not hidden, "what the learner is here to learn is never hidden"
    for cell in code:
        fetches = "urlretrieve" in cell.source  # where a repository is configured
        longest = (40 if fetches else 30) if cell is code[0] else 25
        assert len(cell.source.splitlines()) <= longest, cell.source
        kept = COMPARED in tags(cell)
        assert bool(cell.outputs) == kept, f"outputs are kept only under {COMPARED}: {cell.source}"
        for output in cell.outputs:
            assert output.output_type == "stream" and output.name == "stdout", cell.source


@each
def test_markdown_is_portable(path):
    """Nothing that Colab or JupyterLab would show raw: MyST roles, directives, targets."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\{[a-z:_-]+\}`|^```+\{|^:::|^\([\w-]+\)=", cell.source, re.M)
            assert not re.search(r"!\[\s*\]\(", cell.source), "a picture without alternative text"
            assert "\\(" not in cell.source and "\\[" not in cell.source, "math is $...$"
            assert "http://" not in cell.source


@each
def test_no_trace_of_a_machine(path):
    text = path.read_text()
    assert not re.search(r"/home/|/root/|/Users/|C:\\\\", text)


def test_references_list_what_the_pages_cite_and_nothing_else():
    def papers(texts):
        return {paper for text in texts for paper in re.findall(r"arxiv\.org/abs/([\d.]+\d)", text)}

    pages = [p for p in (ROOT / "book").iterdir() if p.suffix in (".ipynb", ".md")]
    pages += (ROOT / "resnet_course" / "exercises").glob("ch*.py")
    references = ROOT / "book" / "references.md"
    cited = papers(page.read_text() for page in pages if page != references)
    assert cited == papers([references.read_text()])


def test_pages_speak_of_chapters_that_exist():
    numbers = {path.stem[:2] for path in NOTEBOOKS}
    for page in [*NOTEBOOKS, *(ROOT / "book").glob("*.md")]:
        text = re.sub(r'\\n",\s+"', " ", page.read_text())  # a sentence over two lines of JSON
        named = re.findall(r"\bchapters? (\d+)(?:(?:,| and| to) (\d+)\b)?", text)
        assert {n for both in named for n in both if n} <= numbers, page.name


@pytest.fixture
def bare_python(tmp_path):
    """The Python of an environment with every library but without the course's package."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "resnet_course" not in entry.name:
            (site / entry.name).symlink_to(entry)
    return tmp_path / "env" / "bin" / "python"


def test_without_package_or_source_one_sentence(bare_python, tmp_path):
    setup = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    source = next(cell.source for cell in setup if "course-setup" in tags(cell))
    if "https://" in source:
        pytest.skip("a repository is configured: the cell would fetch the package from there")
    (tmp_path / "resnet_course" / "tests").mkdir(parents=True)  # a clone of that name, say
    environment = {k: v for k, v in os.environ.items() if k != "RESNET_COURSE_SOURCE"}

    def run(**more):
        return subprocess.run(
            [bare_python, "-c", source],
            cwd=tmp_path,
            env=environment | more,
            capture_output=True,
            text=True,
        )

    stopped = run()
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    assert "pip install -e ." in stopped.stderr and len(stopped.stderr.splitlines()) == 1
    found = run(RESNET_COURSE_SOURCE=str(ROOT))
    assert found.returncode == 0 and found.stdout.startswith("resnet_course "), found.stderr


# Run behind the last cell: what a reader sees who moves a slider after "Run all".
AFTERWARDS = """
import gc
import resnet_course
from resnet_course.teaching.explore import Explorer

assert resnet_course.SHA256, "the package is the one that the notebook carries"
for explorer in [thing for thing in gc.get_objects() if type(thing) is Explorer]:
    first = explorer.name
    explorer.html()
    assert explorer.name == first, f"{explorer}: a later cell has changed what it draws"
"""


@each
def test_alone_in_an_empty_folder(path, bare_python, tmp_path):
    """nbval on what the page hands out, with nothing beside it, without the package installed."""
    alone = tmp_path / "alone"
    alone.mkdir()
    text = portable.portable(path.read_text(), portable.package(), sync.version())
    notebook = nbformat.reads(text, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(AFTERWARDS))
    nbformat.write(notebook, alone / path.name)
    for weights in portable.weights(text).values():  # too large: in the zip they lie beside
        shutil.copy(weights, alone)
    run = subprocess.run(
        [bare_python, "-m", "pytest", "-q", "--nbval-lax", "--nbval-current-env", path.name],
        cwd=alone,
        env={k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "RESNET_"))},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
