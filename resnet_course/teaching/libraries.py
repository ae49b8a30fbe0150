"""The libraries of others that the course needs: found, or added with pip; never changed.

The setup cell of every notebook calls `complete()`. It imports none of them, so it works before
they are there. A host's own torch, numpy or ipywidgets stay exactly as they are: pip gets the
version of everything installed as a constraint, and torch and torchvision, which only fit each
other in pairs, are added together or not at all.
"""

import importlib
import os
import re
import site
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec

# What pip calls a library, what Python calls it, and the oldest version that the course is run on.
LIBRARIES = {
    "torch": ("torch", "2.4"),
    "torchvision": ("torchvision", "0.19"),
    "matplotlib": ("matplotlib", "3.8"),
    "scikit-learn": ("sklearn", "1.4"),
    "ipywidgets": ("ipywidgets", "7.7"),
    "tqdm": ("tqdm", "4.66"),
    "filelock": ("filelock", "3.13"),
}
PAIR = {"torch", "torchvision"}
AGAIN = "then run this cell again"

# A piece of pip's own message, what it means, and what to do.
REASONS = (
    ("No module named pip", "this Python has no pip", "add them as you add packages here"),
    (
        "externally-managed-environment",
        "the system manages this Python",
        "make an environment of your own (`python3 -m venv course`) and start Jupyter there",
    ),
    (
        "ResolutionImpossible|conflict",
        "they do not fit what is installed, which stays as it is",
        "make a new environment for the course",
    ),
    ("No space left|quota", "the disk is full", "make room"),
    ("Permission denied|Read-only file system|not writ", "no folder is writable", "ask your host"),
    ("CERTIFICATE|SSL", "the network's certificate does not verify", "ask whoever runs it"),
)


def missing():
    """pip's names of the libraries that are not here."""
    importlib.invalidate_caches()
    return [name for name, (module, _) in LIBRARIES.items() if find_spec(module) is None]


def complete():
    """Add what is missing, with pip, and nothing else. Ends in one sentence when that fails."""
    names = missing()
    alone = PAIR & set(names)
    if len(alone) == 1:
        (absent,), (here,) = alone, PAIR - alone
        raise SystemExit(
            f"{here} {installed(here)} is here without {absent}, and pip would replace it: install "
            f"the {absent} that goes with it (pytorch.org/get-started/previous-versions), {AGAIN}."
        )
    if names:
        add(names)
    old = [
        name
        for name, (_, oldest) in LIBRARIES.items()
        if numbers(installed(name)) < numbers(oldest)
    ]
    for name in old:
        print(f"{name} {installed(name)} is older than {LIBRARIES[name][1]}: cells may fail.")


def add(names):
    with tempfile.TemporaryDirectory() as folder:
        kept = os.path.join(folder, "installed.txt")
        with open(kept, "w", encoding="utf-8") as file:
            file.write("\n".join(constraints()))
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run = subprocess.run([*pip, "-c", kept, *names], capture_output=True, text=True)
    what = ", ".join(names)
    if run.returncode:
        raise SystemExit(f"Not installed ({what}): {reason(run.stderr)}, {AGAIN}.")
    see_new_packages()
    if left := missing():
        raise SystemExit(
            f"pip added {', '.join(left)} where this Python does not look: restart the kernel, "
            f"{AGAIN}."
        )


def see_new_packages():
    """On a hub, pip's first package makes a folder in the home that Python did not see at start."""
    if site.ENABLE_USER_SITE:
        site.addsitedir(site.getusersitepackages())
    importlib.invalidate_caches()


def constraints():
    """name==version of everything installed; what pip could not read as a version is left out."""
    lines = set()
    for one in distributions():
        name, number = one.metadata["Name"], (one.version or "").partition("+")[0]
        if name and re.fullmatch(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?", number):
            lines.add(f"{name}=={number}")
    return sorted(lines)


def reason(said):
    """pip's message, a page long, as why and what to do."""
    for pattern, why, what_to_do in REASONS:
        if re.search(pattern, said, re.I):
            return f"{why}; {what_to_do}"
    return "check the network"


def installed(name):
    """The version, or "" when it cannot be told."""
    try:
        return version(name) or ""
    except PackageNotFoundError:
        return ""


def numbers(text):
    """ "3.10.1" -> (3, 10, 1), to be compared; what has no number counts as the newest."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else (9999,)
