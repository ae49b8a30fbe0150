"""The notebooks that the pages hand out: what they carry, and what they do on odd machines."""

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import portable  # noqa: E402
import sync  # noqa: E402


@pytest.fixture(scope="module")
def notebooks():
    return portable.portable_notebooks()


@pytest.fixture(scope="module")
def cell():
    """The portable setup cell, which is the same in every notebook."""
    return portable.setup_cell(portable.package(), sync.version())


def run(code, folder, python=sys.executable, **environment):
    """A cell as a program in a folder -> the finished process."""
    folder.mkdir(exist_ok=True)
    (folder / "cell.py").write_text(code)
    hidden = {"PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [python, folder / "cell.py"],
        cwd=folder,
        env=os.environ | hidden | environment,
        capture_output=True,
        text=True,
    )


def test_every_notebook_is_small_and_the_same_but_for_its_setup(notebooks):
    assert set(notebooks) == {path.name for path in (ROOT / "book").glob("*.ipynb")}
    for name, text in notebooks.items():
        assert len(text.encode()) <= 500_000, name
        notebook = nbformat.reads(text, as_version=4)
        nbformat.validate(notebook)
        original = nbformat.read(ROOT / "book" / name, as_version=4)
        for ours, theirs in zip(notebook.cells, original.cells, strict=True):
            if "course-setup" in theirs.metadata.get("tags", []):
                assert ours.metadata["cellView"] == "form"
                assert ours.metadata["jupyter"] == {"source_hidden": True}
                assert ours.source.startswith("# @title ")
            else:
                assert ours == theirs


def test_equal_contents_are_equal_bytes(notebooks):
    assert portable.package() == portable.package()
    assert portable.class_archive(notebooks) == portable.class_archive(notebooks)


def test_no_trained_weights_and_no_leftovers():
    names = set(portable.files())
    assert {"resnet_course/resnet.py", "resnet_course/LICENSE"} <= names
    assert "resnet_course/reproduce/runs/digits-8-epochs.json" in names
    assert not [name for name in names if name.endswith((".pt", ".pyc")) or "__pycache__" in name]


def test_the_archive_for_a_class(notebooks, tmp_path):
    packed = tmp_path / "class.zip"
    packed.write_bytes(portable.class_archive(notebooks))
    with zipfile.ZipFile(packed) as file:
        names = file.namelist()
        readme = file.read("resnet-course/README.txt").decode()
    assert set(notebooks) <= {Path(name).name for name in names}
    assert "resnet-course/residual-20.pt" in names
    assert len(readme.splitlines()) < 30 and "Start with intro.ipynb" in readme


TELL = "\nimport resnet_course\nprint(resnet_course.__file__)\n"


def test_one_line_and_nothing_left_behind(cell, tmp_path):
    """In a folder that cannot be written, without a home, whatever the working directory holds."""
    room, folder = tmp_path / "room", tmp_path / "folder"
    room.mkdir()
    folder.mkdir(mode=0o755)
    for other in ("resnet_course", "resnet_course/resnet_course"):  # a clone of that name, say
        (folder / other).mkdir()
    homeless = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), "")
    done = run(cell, folder, TMPDIR=str(room), MPLCONFIGDIR=str(tmp_path), **homeless)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"resnet_course {sync.version()}, running on \w+\n", done.stdout)
    assert not list(room.glob("resnet_course*"))


@pytest.mark.parametrize("release", ["0.0.1", "99.0.0"])
def test_it_takes_its_own_package_whatever_is_there(cell, tmp_path, release):
    other = tmp_path / "lib" / "resnet_course"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text(f"__version__ = '{release}'\n")
    for before in ("", "import resnet_course\n"):
        done = run(before + cell + TELL, tmp_path / "x", PYTHONPATH=str(other.parent))
        first, second = done.stdout.splitlines()
        assert first.startswith(f"resnet_course {sync.version()}, ") and str(tmp_path) not in second


def test_a_second_run_of_the_cell_changes_nothing(cell, tmp_path):
    again = "\nfrom resnet_course import resnet as a\n" + cell
    again += "\nfrom resnet_course import resnet as b\nassert a is b\n"
    done = run(cell + again, tmp_path / "x")
    assert done.returncode == 0, done.stderr


def test_programs_that_a_cell_starts_find_the_package(cell, tmp_path):
    start = (
        "\nimport subprocess\nsubprocess.run([sys.executable, '-c', 'import resnet_course as r; "
    )
    start += "print(r.__file__)'], check=True)\n"
    done = run(cell + start, tmp_path / "x")
    assert done.returncode == 0 and str(ROOT) not in done.stdout.splitlines()[-1], done.stderr


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace('PACKAGE = "', 'PACKAGE = "A'), "is damaged"),
        (lambda text: "import tempfile\ntempfile.tempdir = '/dev/null/x'\n" + text, "TMPDIR"),
    ],
)
def test_one_sentence_otherwise(cell, tmp_path, change, sentence):
    done = run(change(cell), tmp_path / "x")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert sentence in done.stderr and len(done.stderr.splitlines()) == 1


ASK = """
from resnet_course.reproduce import recorded

try:
    print(type(recorded.pretrained("residual-20")).__name__)
except recorded.NotRecorded as error:
    print(error)
"""


def test_trained_weights_that_are_not_there(tmp_path, monkeypatch):
    """One sentence; beside the notebook, or where the course is published, they are found."""
    folder, weights = tmp_path / "x", ROOT / "book" / "recorded" / "residual-20.pt"

    def said(*places):
        monkeypatch.setattr(portable, "places", lambda: places)
        needed = portable.weights("recorded.pretrained(")
        cell = portable.setup_cell(portable.package(), sync.version(), needed)
        return run(cell + ASK, folder).stdout.splitlines()[1:]

    nowhere = "http://127.0.0.1:1/nothing"
    (sentence,) = said(nowhere)
    assert "residual-20.pt" in sentence and "beside the notebook" in sentence
    assert said(nowhere, weights.parent.as_uri()) == ["CifarResNet"]
    (folder / weights.name).write_bytes(weights.read_bytes())
    assert said() == ["CifarResNet"]
    (folder / weights.name).write_bytes(b"something else")
    assert said() == [sentence]


def test_with_a_repository_links_lead_to_the_site(monkeypatch):
    address = "https://github.com/owner/name", "https://owner.github.io/name"
    monkeypatch.setattr(sync, "addresses", lambda: address)
    text = (ROOT / "book" / "intro.ipynb").read_text()
    assert not re.search(r"\]\(\w+\.ipynb", portable.portable(text, "", "1.0.0"))
    assert portable.places() == [
        "https://owner.github.io/name/_sources/book/recorded",
        f"https://github.com/owner/name/raw/v{sync.version()}/book/recorded",
    ]


def test_the_small_cell_fetches_the_package_from_the_repository(tmp_path):
    """Nothing is installed: what GitHub packs is unpacked, and used from there."""
    contents = {f"name-999/{name}": path.read_bytes() for name, path in portable.files().items()}
    packed = tmp_path / "v999.0.0.zip"
    packed.write_bytes(portable.archive(contents))
    repository = "https://github.com/owner/name"
    cell = sync.setup_cell(repository, "999.0.0")
    there = f"{repository}/archive/refs/tags/v999.0.0.zip"
    assert there in cell
    done = run(cell.replace(there, packed.as_uri()) + TELL, tmp_path / "x", TMPDIR=str(tmp_path))
    first, second = done.stdout.splitlines()
    assert first.startswith("resnet_course ") and second.startswith(str(tmp_path)), done.stderr
    done = run(cell.replace(there, "http://127.0.0.1:1/x.zip"), tmp_path / "x")
    assert done.returncode == 1 and done.stderr.startswith("Check the network: ")
    assert len(done.stderr.splitlines()) == 1


HTML = ROOT / "_build" / "html"
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.skipif(not (HTML / "index.html").exists(), reason="no built book: `make book`")
def test_the_page_s_button_hands_out_the_notebook_that_runs_alone(notebooks, tmp_path):
    """What a click brings is, byte for byte, what tests/book/test_notebooks.py runs alone."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(Quiet, directory=HTML)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        for name, text in notebooks.items():
            place = f"book/{name.removesuffix('.ipynb')}.html"
            page.goto(f"http://127.0.0.1:{server.server_port}/{place}")
            assert page.locator("img.course-still, p.course-still").count() == 0
            page.locator(".dropdown-download-buttons > button").click()
            with page.expect_download() as download:
                page.locator(".btn-download-source-button").click()
            assert download.value.suggested_filename == name
            download.value.save_as(tmp_path / name)
            assert (tmp_path / name).read_text() == text, name
        browser.close()
    server.shutdown()
    server.server_close()
