"""The package's form: small leaves, and one place for each truth."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "resnet_course"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room, and the rooms it may import from: every arrow points down. The four modules of the subject
# know nobody; inside data, teaching and reproduce the files of a room know each other.
SUBJECT = {"resnet", "batch_norm", "train", "probe"}
MAY_IMPORT = {
    **{name: set() for name in SUBJECT},
    "data": {"data"},
    "teaching": {"teaching"},
    "exercises": {*SUBJECT, "data", "teaching", "reproduce"},
    "reproduce": {*SUBJECT, "data", "reproduce"},
}


def room(path):
    """data/images.py -> "data", resnet.py -> "resnet"."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0].removesuffix(".py")


def rooms_imported(path):
    """The rooms of the package that a module imports from, itself included."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(ROOT).with_suffix("").parts
            base = ".".join(here[: len(here) - node.level]) if node.level else ""
            full = ".".join(filter(None, (base, node.module)))
            names = [f"{full}.{alias.name}" for alias in node.names]
        for name in names:
            package, *rest = name.split(".")
            if package == "resnet_course" and rest and rest[0] != "__version__":
                yield rest[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_room_imports_only_from_below(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
    if path.parent == PACKAGE and path.stem == "__init__":
        assert set(rooms_imported(path)) == set()
    else:
        assert set(rooms_imported(path)) <= MAY_IMPORT[room(path)]


def test_rooms_have_no_private_files():
    """A room is its own privacy: no underscore says so once more."""
    names = {path.name for path in MODULES} - {"__init__.py", "__main__.py"}
    assert not [name for name in names if name.startswith("_")]
    assert {path.stem for path in PACKAGE.glob("*.py")} == {*SUBJECT, "__init__"}


def test_importing_does_nothing():
    code = (
        "import torch; a = torch.get_rng_state(); "
        "from resnet_course import batch_norm, data, probe, resnet, train; "
        "from resnet_course.reproduce import command_line, recorded; "
        "from resnet_course.teaching import check, diagram, explore, plot, quiz; "
        "import matplotlib; assert torch.equal(a, torch.get_rng_state()); "
        "assert matplotlib.rcParams['svg.fonttype'] == 'path'"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout == "", run.stderr


def test_resnet_imports_torch_alone():
    tree = ast.parse((ROOT / "resnet_course" / "resnet.py").read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} == {"torch"}


def test_pins_are_exact():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            line = line.split("#")[0].strip()
            assert not line or line.startswith("-") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_pins_satisfy_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = (ROOT / "requirements.txt").read_text()
    for need in project["dependencies"]:
        assert re.search(rf"^{re.split('[><=]', need)[0]}==", pinned, re.M), need


@pytest.fixture
def copy_of_the_repository(tmp_path):
    import shutil

    for name in ("tools", "book", "resnet_course", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("pyproject.toml", "_config.yml", "CITATION.cff", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def sync(folder, *arguments):
    command = [sys.executable, "tools/sync.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_one_command_changes_the_address_everywhere_and_back(copy_of_the_repository):
    folder = copy_of_the_repository
    generated = [*folder.glob("*.*"), *folder.glob("book/*.ipynb")]
    before = {path: path.read_text() for path in generated}
    assert sync(folder, "--repository", "https://github.com/owner/course.git").returncode == 0
    for name in (
        "_config.yml",
        "CITATION.cff",
        "README.md",
        *map(str, folder.glob("book/*.ipynb")),
    ):
        assert "https://github.com/owner/course" in (folder / name).read_text()
        assert "course.git" not in (folder / name).read_text()
    assert (
        "https://owner.github.io/course/book/intro.html"
        in (folder / "book" / "intro.ipynb").read_text()
    )
    assert sync(folder, "--check").returncode == 0
    assert sync(folder, "--repository", "").returncode == 0
    assert all(path.read_text() == text for path, text in before.items())


def test_bad_address_is_refused(copy_of_the_repository):
    run = sync(copy_of_the_repository, "--repository", "ftp://nowhere")
    assert run.returncode == 1 and "'ftp://nowhere' is not an address" in run.stderr


def test_old_python_gets_one_sentence(tmp_path):
    code = (
        "import sys; sys.version_info = (3, 8, 0); sys.argv = ['environment.py', 'x', 'y']; "
        "import runpy; runpy.run_path('tools/environment.py', run_name='__main__')"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.strip().count("\n") == 0 and "3.8 is too old" in run.stderr


def test_new_chapter_fits_and_overwrites_nothing(copy_of_the_repository):
    folder = copy_of_the_repository
    command = [sys.executable, "tools/new_chapter.py", "98_trial", "A trial"]
    environment = os.environ | {"PYTHONPATH": str(folder)}

    def run(arguments):
        return subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True
        )

    assert run(command).returncode == 0
    wrote = sync(folder)
    assert "98_trial" not in wrote.stdout, "the new notebook is in step from the start"
    assert "A name for it" in (folder / "book" / "exercises.md").read_text()
    pytest_here = [sys.executable, "-m", "pytest", "-q", "tests/exercises/test_exercises.py"]
    tests = run([*pytest_here, "-k", "ch98 and not prints_every"])
    assert tests.returncode == 0, tests.stdout[-3000:]
    assert run(command).returncode == 1 and "nothing was written" in run(command).stderr
    assert "must look like 08_pretrained" in run([*command[:2], "trial", "T"]).stderr
