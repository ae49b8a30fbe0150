"""What the setup cell says and does when libraries are missing. Nothing is installed here."""

import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from resnet_course.teaching import libraries

ROOT = Path(__file__).resolve().parents[2]


def test_the_libraries_are_the_package_s_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {f"{name}>={oldest}" for name, (_, oldest) in libraries.LIBRARIES.items()}
    assert ours == set(project["dependencies"])


def test_nothing_is_done_when_nothing_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", None)
    libraries.complete()
    assert capsys.readouterr().out == ""


def test_it_imports_no_library():
    code = "import sys; from resnet_course.teaching import libraries; libraries.missing(); "
    code += "assert not {'torch', 'numpy', 'matplotlib'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.fixture
def without(monkeypatch):
    """without(name, ..., said="", code=0): these libraries are missing, and pip says that."""
    commands = []

    def go(*names, said="", code=1, helps=False):
        absent = {libraries.LIBRARIES[name][0] for name in names}
        real = libraries.find_spec
        monkeypatch.setattr(
            libraries, "find_spec", lambda name: None if name in absent else real(name)
        )

        def run(command, **options):
            limits = Path(command[command.index("-c") + 1]).read_text().splitlines()
            commands.append((command, limits))
            if helps:
                absent.clear()
            return SimpleNamespace(returncode=code, stderr=said)

        monkeypatch.setattr(libraries.subprocess, "run", run)
        return commands

    return go


@pytest.mark.parametrize("absent", ["torch", "torchvision"])
def test_torch_and_torchvision_come_together_or_not_at_all(without, absent):
    commands = without(absent)
    with pytest.raises(SystemExit, match=f"is here without {absent}, and pip would replace it"):
        libraries.complete()
    assert commands == []


def test_both_are_added_where_both_are_missing(without):
    commands = without("torch", "torchvision", code=0, helps=True)
    libraries.complete()
    assert {"torch", "torchvision"} <= set(commands[0][0])


def test_only_what_is_missing_is_asked_for_and_the_rest_is_held(without):
    commands = without("tqdm", "scikit-learn", code=0, helps=True)
    libraries.complete()
    ((command, limits),) = commands
    assert command[command.index("-c") + 2 :] == ["scikit-learn", "tqdm"]
    held = dict(line.split("==") for line in limits)
    import numpy
    import torch

    assert held["numpy"] == numpy.__version__
    assert held["torch"] == torch.__version__.partition("+")[0]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("/usr/bin/python3: No module named pip", "this Python has no pip"),
        ("error: externally-managed-environment\n\n× This environment", "the system manages"),
        ("ERROR: ResolutionImpossible: for help visit", "do not fit what is installed"),
        ("ERROR: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: [Errno 30] Read-only file system: '/opt'", "no folder is writable"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY", "certificate"),
        ("Failed to establish a new connection: [Errno -2]", "check the network"),
    ],
)
def test_each_failure_has_its_own_sentence(without, said, sentence):
    without("tqdm", said=said)
    with pytest.raises(SystemExit, match=rf"^Not installed \(tqdm\): .*{sentence}") as stopped:
        libraries.complete()
    assert "\n" not in str(stopped.value)


def test_what_pip_put_elsewhere_is_said(without):
    without("tqdm", code=0)
    with pytest.raises(SystemExit, match="restart the kernel"):
        libraries.complete()


def test_a_hub_s_first_package_is_seen_at_once(monkeypatch, tmp_path):
    """The user's folder of packages does not exist when Python starts: pip makes it."""
    user = tmp_path / "user"
    monkeypatch.setattr(libraries.site, "ENABLE_USER_SITE", True)
    monkeypatch.setattr(libraries.site, "getusersitepackages", lambda: str(user))
    monkeypatch.setattr(sys, "path", list(sys.path))
    user.mkdir()
    (user / "came_with_pip.py").write_text("")
    assert libraries.find_spec("came_with_pip") is None
    libraries.see_new_packages()
    assert libraries.find_spec("came_with_pip")


def test_old_versions_are_named(monkeypatch, capsys):
    monkeypatch.setattr(libraries, "installed", lambda name: "3.7.5" if "mat" in name else "99.1")
    libraries.complete()
    assert capsys.readouterr().out == "matplotlib 3.7.5 is older than 3.8: cells may fail.\n"


@pytest.mark.parametrize(
    ("text", "expected"), [("3.10.1", (3, 10, 1)), ("2.4.1+cu121", (2, 4, 1)), ("", (9999,))]
)
def test_numbers_of_a_version(text, expected):
    assert libraries.numbers(text) == expected
