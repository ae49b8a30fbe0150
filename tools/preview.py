"""Build one chapter alone, for looking at it while writing: preview.py NAME [FOLDER]

    .venv/bin/python tools/preview.py 03_degradation

The page is FOLDER/_build/html/book/NAME.html; FOLDER is _build/preview/NAME unless given. The
chapter is executed when it or the package has changed. Links to other chapters lead nowhere there.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def main(name, folder=None):
    if not any((ROOT / "book").glob(f"{name}.*")):
        known = ", ".join(sorted(path.stem for path in (ROOT / "book").glob("*.ipynb")))
        sys.exit(f"preview: there is no chapter {name!r} in book/: choose one of {known}")
    folder = Path(folder or ROOT / "_build" / "preview" / name).resolve()
    (folder / "book").mkdir(parents=True, exist_ok=True)
    for part in ("tools", "book/_static", "book/recorded"):
        if (ROOT / part).exists():
            shutil.copytree(ROOT / part, folder / part, dirs_exist_ok=True)
    others = [ROOT / other for other in ("requirements.txt", "constraints.txt", "_config.yml")]
    for file in [*(ROOT / "book").glob(f"{name}.*"), *others]:
        shutil.copy(file, folder / file.relative_to(ROOT))
    toc = {"format": "jb-book", "root": f"book/{name}"}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    build = [Path(sys.executable).parent / "jupyter-book", "build", "."]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(build, cwd=folder, env=environment)
    print(f"{folder}/_build/html/book/{name}.html")
    sys.exit(done.returncode)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
