"""Run notebooks as a reader elsewhere does: downloaded, alone in an empty folder, with this Python.

    PYTHON tools/anywhere.py [--seed N] [--folder PLACE] [NAME ...]     03_degradation, say

PYTHON belongs to any environment with the course's libraries, pytest and nbval; the package itself
comes from the notebooks. With --seed, every `SEED = ...` of a notebook gets that number: what the
text says must not hang on one stream of random numbers. Exit code: how many notebooks failed.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import portable


def with_seed(text, seed):
    """The notebook with another value in each cell's `SEED = ...`, and how many there were."""
    notebook, count = nbformat.reads(text, as_version=4), 0
    for cell in notebook.cells:
        if cell.cell_type == "code":
            found = re.subn(r"^SEED = \d+", f"SEED = {seed}", cell.source, flags=re.M)
            cell.source, count = found[0], count + found[1]
    return nbformat.writes(notebook), count


def run(name, text, folder):
    """nbval on one notebook -> the end of what it says, or "" when all is well."""
    with tempfile.TemporaryDirectory(dir=folder) as alone:
        (Path(alone) / name).write_text(text, encoding="utf-8")
        for path in portable.weights(text).values():  # in the zip they lie beside
            shutil.copy(path, alone)
        nbval = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        nbval += ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=1500", name]
        done = subprocess.run(nbval, cwd=alone, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout[-4000:] + done.stderr[-1000:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, help="in the place of every SEED of the notebooks")
    parser.add_argument("--folder", help="an empty folder is made in this one: /content for Colab")
    parser.add_argument("names", nargs="*", metavar="NAME")
    options = parser.parse_args()
    failed = 0
    for name, text in portable.portable_notebooks().items():
        if options.names and Path(name).stem not in options.names:
            continue
        if options.seed is not None:
            text, count = with_seed(text, options.seed)
            if not count:
                print(f"{name} has no line SEED = ...: --seed changes nothing in it")
        started = time.monotonic()
        said = run(name, text, options.folder)
        failed += bool(said)
        print(f"{name} {'FAILED' if said else 'passed'} in {time.monotonic() - started:.0f} s")
        print(said, end="", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
