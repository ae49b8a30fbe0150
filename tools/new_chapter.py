"""Start a chapter: notebook, exercises and bank, from tools/template: new_chapter.py NAME TITLE

    .venv/bin/python tools/new_chapter.py 08_pretrained "Using a ResNet you did not train"

The three files run as they are; fill them in, and the tests tell what is still missing (three
exercises, three questions). Nothing is overwritten.
"""

import re
import sys
from pathlib import Path

import jupytext
import nbformat
from sync import ROOT, addresses, synced_notebook, version

TEMPLATE = Path(__file__).resolve().parent / "template"


def main(name, title):
    match = re.fullmatch(r"(\d\d)_[a-z0-9_]+", name)
    if not match:
        sys.exit(f"new_chapter: {name!r} is no chapter's name: it must look like 08_pretrained")
    number = match[1]
    made = {
        ROOT / "book" / f"{name}.ipynb": "chapter.md",
        ROOT / "resnet_course" / "exercises" / f"ch{number}.py": "exercises.py.txt",
        ROOT / "tests" / "exercises" / f"ch{number}.py": "bank.py.txt",
    }
    for path in made:
        if path.exists():
            sys.exit(f"new_chapter: {path.relative_to(ROOT)} is there already; nothing was written")
    for path, template in made.items():
        text = (TEMPLATE / template).read_text()
        text = text.replace("@TITLE@", title).replace("@MODULE@", f"ch{number}")
        text = text.replace("@N@", str(int(number)))
        if path.suffix == ".ipynb":
            text = nbformat.writes(jupytext.reads(text, fmt="md"))
            text = synced_notebook(text, path.name, *addresses(), version())
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
    print(f"Now add `- file: book/{name}` to _toc.yml, run `make sync`, and see CONTRIBUTING.md.")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
