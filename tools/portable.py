"""Notebooks that run anywhere: each carries the course's package in its setup cell.

    python tools/portable.py [FOLDER]     write all of them (to _build/notebooks), and a zip of them

The repository's notebooks stay small. These are what the page's download button hands out
(tools/sphinx/hand_out.py), for Colab, Kaggle, a university's hub or a laptop without a network.
"""

import base64
import hashlib
import io
import json
import lzma
import re
import sys
import zipfile
from pathlib import Path

import nbformat
import sync

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 500_000  # of one notebook
MOMENT = (1980, 1, 1, 0, 0, 0)  # of every file in an archive: equal contents are equal bytes

SETUP = """
# @title Setup: run this cell first { display-mode: "form" }
# The text below is the course's package, resnet_course @RELEASE@: a packed zip file.
PACKAGE = "@PACKAGE@"
SHA256 = "@SHA256@"
WEIGHTS, PLACES = @WEIGHTS@, @PLACES@

# It is unpacked into a private folder, which is removed at the end, and used
# from there: nothing is installed, whatever version is here already. Trained
# networks are too large to be carried; they may lie beside this notebook.

import atexit
import base64
import hashlib
import io
import lzma
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from urllib.request import urlopen

if getattr(sys.modules.get("resnet_course"), "SHA256", None) != SHA256:
    if hashlib.sha256(PACKAGE.encode()).hexdigest() != SHA256:
        raise SystemExit("This notebook is damaged: download it again.")
    try:
        folder = tempfile.mkdtemp(prefix="resnet_course_")
        packed = io.BytesIO(lzma.decompress(base64.b64decode(PACKAGE)))
        zipfile.ZipFile(packed).extractall(folder)
    except OSError as error:
        raise SystemExit(
            f"The package finds no room here ({error}): name a folder that can be "
            "written in the environment variable TMPDIR, and restart the kernel."
        ) from None
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    sys.path.insert(0, folder)
    others = os.environ.get("PYTHONPATH")  # for programs that a cell starts
    os.environ["PYTHONPATH"] = folder + (os.pathsep + others if others else "")
    for name in [n for n in sys.modules if n.split(".")[0] == "resnet_course"]:
        del sys.modules[name]
    import resnet_course

    resnet_course.SHA256 = SHA256

runs = Path(sys.modules["resnet_course"].__path__[0], "reproduce", "runs")
for name in [name for name in WEIGHTS if not (runs / name).exists()]:
    for place in [Path.cwd().as_uri(), *PLACES]:
        try:
            content = urlopen(f"{place}/{name}", timeout=20).read()
        except OSError:
            continue
        if hashlib.sha256(content).hexdigest() == WEIGHTS[name]:
            (runs / name).write_bytes(content)
            break

"""

README = """ResNet from the Ground Up, {release}: all chapters as notebooks
{line}

Start with intro.ipynb. Each notebook carries the course's package: open it anywhere and run it
from top to bottom.

- On a laptop or a university's JupyterHub: put the notebooks into a folder and open them with
  Jupyter. Python 3.11 or newer with torch 2.4, torchvision 0.19, matplotlib 3.8, scikit-learn 1.4,
  ipywidgets 7.7, tqdm and filelock, or newer ones. What is missing is added with pip; what is there
  stays as it is. When nothing is missing, no network is needed. 3 GB of memory are enough.
- In Google Colab: File, Upload notebook; then File, Save a copy in Drive, since your work is kept
  only in your own copy. In Kaggle: New Notebook, File, Import notebook.
{weights}
Code: MIT. Text and figures: CC BY 4.0.
"""


def files(root=ROOT):
    """What a notebook carries, without trained weights -> {name in the archive: path}."""
    package, recorded = root / "resnet_course", root / "book" / "recorded"
    inside = [path for path in package.rglob("*") if "__pycache__" not in path.parts]
    carried = {path.relative_to(root).as_posix(): path for path in inside if path.is_file()}
    for path in recorded.glob("*.json"):
        carried[f"resnet_course/reproduce/runs/{path.name}"] = path
    carried["resnet_course/LICENSE"] = root / "LICENSE"
    return dict(sorted(carried.items()))


def archive(contents, method=zipfile.ZIP_DEFLATED):
    """A zip file -> bytes. The same contents, {name: bytes}, make the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as file:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, MOMENT)
            entry.compress_type, entry.external_attr = method, 0o644 << 16
            file.writestr(entry, content)
    return packed.getvalue()


def package(root=ROOT):
    """The course's package as text -> base64 of a zip file, packed as a whole.

    As one piece it takes a third less than file by file: notebooks have at most `MOST_BYTES`.
    """
    contents = {name: path.read_bytes() for name, path in files(root).items()}
    whole = lzma.compress(archive(contents, zipfile.ZIP_STORED), preset=9 | lzma.PRESET_EXTREME)
    return base64.b64encode(whole).decode()


def weights(text, root=ROOT):
    """The trained networks that a notebook (JSON) may read -> {name: path}."""
    if not re.search(r"recorded\.pretrained\(|network\.load\(", text):
        return {}
    return {path.name: path for path in sorted((root / "book" / "recorded").glob("*.pt"))}


def places():
    """Addresses of the folder with the trained networks, if the course is published."""
    (repository, site), folder = sync.addresses(), "book/recorded"
    found = [f"{site}/_sources/{folder}"] if site else []
    return [*found, f"{repository}/raw/v{sync.version()}/{folder}"] if repository else found


def setup_cell(packed, release, needed=None):
    """The portable setup cell. `needed`: see `weights`."""
    text = SETUP.strip("\n") + "\n" + sync.START
    digests = {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in (needed or {}).items()
    }
    parts = {
        "@RELEASE@": release,
        "@SHA256@": hashlib.sha256(packed.encode()).hexdigest(),
        "@WEIGHTS@": json.dumps(digests),
        "@PLACES@": json.dumps(places() if needed else []),
        "@PACKAGE@": packed,
    }
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


def portable(text, packed, release, root=ROOT):
    """A notebook (JSON) of the repository, with the package in its setup cell -> JSON.

    One without a setup cell stays as it is.
    """
    notebook = nbformat.reads(text, as_version=4)
    setup = [cell for cell in notebook.cells if "course-setup" in cell.metadata.get("tags", [])]
    for cell in setup:
        cell.source = setup_cell(packed, release, weights(text, root))
        # Folded away in Colab and in Jupyter.
        cell.metadata.update(cellView="form", jupyter={"source_hidden": True})
    if site := sync.addresses()[1]:  # other chapters need not lie beside this one
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                cell.source = re.sub(r"\]\((\w+)\.ipynb", rf"]({site}/book/\1.html", cell.source)
    return nbformat.writes(notebook, indent=1) + "\n" if setup else text


def portable_notebooks(root=ROOT):
    """{file name: text} of all notebooks of the book."""
    packed, release = package(root), sync.version()
    notebooks = {}
    for path in sorted((root / "book").glob("*.ipynb")):
        notebooks[path.name] = text = portable(
            path.read_text(encoding="utf-8"), packed, release, root
        )
        if len(text.encode()) > MOST_BYTES:
            sys.exit(f"portable: {path.name} has {len(text.encode())} bytes, over {MOST_BYTES}")
    return notebooks


def class_archive(notebooks, root=ROOT):
    """All of them for a class: a zip with a short README, and the trained networks beside."""
    networks = sorted((root / "book" / "recorded").glob("*.pt"))
    names = ", ".join(path.name for path in networks)
    said = f"- {names}: trained networks, which some notebooks read. Leave them here.\n"
    release = sync.version()
    title = f"ResNet from the Ground Up, {release}: all chapters as notebooks"
    readme = README.format(release=release, line="=" * len(title), weights=said if networks else "")
    contents = {"README.txt": readme.encode()}
    contents |= {name: text.encode() for name, text in notebooks.items()}
    contents |= {path.name: path.read_bytes() for path in networks}
    return archive({f"resnet-course/{name}": content for name, content in contents.items()})


def main(folder=None):
    folder = Path(folder or ROOT / "_build" / "notebooks")
    folder.mkdir(parents=True, exist_ok=True)
    notebooks = portable_notebooks()
    for name, text in notebooks.items():
        (folder / name).write_text(text, encoding="utf-8")
    packed = folder / f"resnet-course-{sync.version()}.zip"
    packed.write_bytes(class_archive(notebooks))
    largest = max(len(text.encode()) for text in notebooks.values())
    print(f"{len(notebooks)} notebooks, at most {largest / 1e6:.2f} MB each, in {folder}")
    print(f"all of them with a README, for a class: {packed}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
