"""The build, on a book of one page: when cells run again, and that it fails when it must."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def small_book(tmp_path):
    """The book's configuration with one tiny notebook and one tiny package."""
    for name in ("tools", "book/_static"):
        shutil.copytree(ROOT / name, tmp_path / name)
    package = tmp_path / "lib" / "resnet_course"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("ANSWER = 'first'\n")
    (tmp_path / "requirements.txt").write_text("# pins\n")
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "_toc.yml").write_text(yaml.safe_dump({"format": "jb-book", "root": "book/page"}))
    write_page(tmp_path, "import resnet_course\nprint('answer', resnet_course.ANSWER)")
    return tmp_path


def test_only_the_book_s_own_files_are_read(small_book):
    """Not what an environment or a test run leaves in hidden folders."""
    (small_book / ".venv" / "lib").mkdir(parents=True)
    (small_book / ".venv" / "lib" / "notes.md").write_text("# Notes\n")
    assert build(small_book)[0].returncode == 0
    assert not list((small_book / "_build" / "html").rglob("notes.html"))


def write_page(folder, code):
    count = "open('runs.txt', 'a').write('x')\n"
    cells = [nbformat.v4.new_markdown_cell("# Page"), nbformat.v4.new_code_cell(count + code)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "book" / "page.ipynb")


def build(folder):
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")}
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", "."]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    page = folder / "_build" / "html" / "book" / "page.html"
    runs = folder / "book" / "runs.txt"
    return (
        run,
        page.read_text() if page.exists() else "",
        len(runs.read_text()) if runs.exists() else 0,
    )


def test_cells_run_again_when_and_only_when_something_changed(small_book):
    run, page, runs = build(small_book)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "answer first" in page and runs == 1

    assert build(small_book)[2] == 1  # nothing changed

    (small_book / "lib" / "resnet_course" / "__init__.py").write_text("ANSWER = 'second'\n")
    _, page, runs = build(small_book)
    assert "answer second" in page and "answer first" not in page and runs == 2

    (small_book / "requirements.txt").write_text("# other pins\n")
    assert build(small_book)[2] == 3

    style = small_book / "book" / "_static" / "course.css"
    style.write_text("p { color: teal }")
    assert build(small_book)[2] == 3  # a new look needs no new run
    assert "teal" in (small_book / "_build/html/_static/course.css").read_text()

    recorded = small_book / "book" / "recorded"
    recorded.mkdir()
    (recorded / "run.json").write_text(json.dumps({"error": 0.5}))
    assert build(small_book)[2] == 4


def test_failing_cell_fails_the_build(small_book):
    write_page(small_book, "assert 1 == 2, 'not so'")
    run, _, _ = build(small_book)
    assert run.returncode != 0
    assert "not so" in run.stdout + run.stderr
