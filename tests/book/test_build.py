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


def build(folder, more=None):
    environment = os.environ | {"PYTHONPATH": str(folder / "lib")} | (more or {})
    environment.pop("OMP_NUM_THREADS", None)
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


def failure(run):
    """What the build prints last: the lines of the failure."""
    assert run.returncode != 0
    assert "Traceback" not in run.stdout + run.stderr
    return run.stderr.partition("The book was not built:")[2].strip().splitlines()


def test_a_failing_cell_ends_the_build_with_a_few_lines(small_book):
    write_page(small_book, "one = 1\nassert one == 2, 'not so'")
    lines = failure(build(small_book)[0])
    assert lines[1:4] == [
        "page, code cell 1 (under “Page”), stopped at the line",
        "    assert one == 2, 'not so'",
        "AssertionError: not so",
    ]
    assert len(lines) == 5 and lines[4].startswith("Run the chapter in Jupyter")
    log = Path(lines[4].split()[-1])
    assert "Traceback (most recent call last)" in log.read_text()
    write_page(small_book, "print('mended')")
    run, page, _ = build(small_book)
    assert run.returncode == 0 and "mended" in page


def test_a_kernel_that_dies_ends_the_build_with_a_few_lines(small_book):
    write_page(small_book, "import os\nos.kill(os.getpid(), 9)")
    lines = failure(build(small_book)[0])
    assert "code cell 1" in lines[1] and "the kernel died" in lines[1] and "memory" in lines[1]
    assert "RESNET_COURSE_JOBS=1" in lines[2] and len(lines) == 3


def test_what_hangs_is_noticed_without_a_time_limit(small_book):
    """A cell that waits for ever ends the build; one that computes as long does not."""
    tool = small_book / "tools" / "sphinx" / "run_chapters.py"
    text = tool.read_text()
    assert "HANGS_AFTER = 20 * 60" in text
    tool.write_text(text.replace("HANGS_AFTER = 20 * 60", "HANGS_AFTER = 6"))
    long = "import time\nend = time.monotonic() + 10\nwhile time.monotonic() < end: pass"
    write_page(small_book, long)
    assert build(small_book)[0].returncode == 0
    write_page(small_book, "import threading\nthreading.Event().wait()")
    lines = failure(build(small_book)[0])
    assert lines[1].startswith("page hangs: for 6 s it has computed nothing")


def test_several_chapters_run_at_a_time_each_with_one_thread(small_book):
    code = "import os, time\ntime.sleep(3)\nprint('threads', os.environ['OMP_NUM_THREADS'])"
    write_page(small_book, code)
    for name in ("second", "third"):
        shutil.copy(small_book / "book" / "page.ipynb", small_book / "book" / f"{name}.ipynb")
        path = small_book / "book" / f"{name}.ipynb"
        path.write_text(path.read_text().replace("time.sleep(3)", f"time.sleep(3) # {name}"))
    toc = {"format": "jb-book", "root": "book/page"}
    toc["chapters"] = [{"file": f"book/{name}"} for name in ("second", "third")]
    (small_book / "_toc.yml").write_text(yaml.safe_dump(toc))
    environment = {"RESNET_COURSE_JOBS": "3"}
    run, page, runs = build(small_book, environment)
    assert run.returncode == 0, run.stderr
    assert runs == 3 and "threads 1" in page
    assert "executing 3 chapters, 3 at a time: about" in run.stdout
    assert "[3/3] " in run.stdout and "[1/3] " in run.stdout
    times = json.loads((small_book / "_build" / ".jupyter_cache" / "seconds.json").read_text())
    assert set(times) == {"page", "second", "third"} and min(times.values()) > 3
    assert "executing" not in build(small_book, environment)[0].stdout  # nothing changed
