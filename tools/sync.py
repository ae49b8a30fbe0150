"""Write every generated part of the repository from its one source.

    python tools/sync.py [NAME ...]           write them, or only those of some notebooks
    python tools/sync.py --check              say what is out of step, and fail if anything is
    python tools/sync.py --repository URL     change the repository's address first

Sources: pyproject.toml ([tool.resnet-course]: addresses), resnet_course/__init__.py (version),
this file (the setup cell, evidence labels). Generated: the block in _config.yml, README.md and
CITATION.cff; the table in book/exercises.md; in each notebook the header, setup cell, evidence
labels, the chapter's number, what the page folds (fold.py), ids, counts and metadata.
"""

import argparse
import ast
import hashlib
import re
import sys
import tomllib
from pathlib import Path

import fold
import nbformat

ROOT = Path(__file__).resolve().parent.parent
COMPARED = "nbval-check-output"  # cells with this tag keep their text output; nbval compares it

# The setup cell. Another one, which carries the package, is in portable.py; both end with START.
START = """
from resnet_course.teaching import libraries

libraries.complete()  # adds what is missing; what is here stays as it is

from resnet_course import __version__, train

DEVICE, THREADS = train.pick_device(), train.share_the_cpu()
print(f"resnet_course {__version__}, running on {DEVICE}")
""".strip()

SETUP = """
# Setup, the same in every chapter: find the course's package.
import os
import sys
@IMPORTS@
@SOURCE@
try:
    from resnet_course import __version__ as found
except ImportError:  # absent, or a folder that only has the same name
    found = "0"
if tuple(map(int, found.split("."))) < (@NEEDED@):
    if not SOURCE:
        raise SystemExit(
            "resnet_course @RELEASE@ is not installed: run `pip install -e .` in the "
            "course's folder, or download this chapter from the course's page."
        )
@FETCH@    sys.path.insert(0, SOURCE)
    for name in [n for n in sys.modules if n.startswith("resnet_course")]:
        del sys.modules[name]

"""

# With a repository: the package comes from there, without pip, and is used where it is unpacked.
IMPORTS = """
from shutil import unpack_archive
from tempfile import mkdtemp
from urllib.request import urlretrieve
"""
FETCH = """
    if "://" in SOURCE:
        folder = mkdtemp(prefix="resnet_course_")
        try:
            unpack_archive(urlretrieve(SOURCE)[0], folder, "zip")
        except OSError as error:
            raise SystemExit(f"Check the network: {error}.") from None
        SOURCE = os.path.join(folder, *os.listdir(folder))
"""

# How a claim is backed. Authors write <span class="evidence measured"></span>; the rest is made
# here, as HTML with its style inside, since Colab and JupyterLab have no style sheet of ours.
EVIDENCE = {
    "derived": ("∴", "derived", "The text derives it in front of you."),
    "measured": ("◉", "measured here", "A cell of this chapter measures it and asserts it."),
    "recorded": ("▤", "recorded", "From a longer run; its log is in the repository."),
    "cited": ("❞", "cited", "From the source that is linked."),
    "contested": ("⇄", "contested", "Researchers disagree; both sides are cited."),
}
LABEL = (
    '<span class="evidence {kind}" title="{title}" style="border:1px solid;border-radius:1em;'
    'padding:0 .6em;font-size:.8em;white-space:nowrap">{mark} {words}</span>'
)


def evidence_labels(text):
    """Write every evidence label out in full; an unknown kind is an error."""

    def label(match):
        kind = match[1]
        if kind not in EVIDENCE:
            sys.exit(f"sync: evidence {kind!r} is unknown: choose one of {', '.join(EVIDENCE)}")
        mark, words, title = EVIDENCE[kind]
        return LABEL.format(kind=kind, mark=mark, words=words, title=title)

    return re.sub(r'<span class="evidence (\w+)"[^>]*>.*?</span>', label, text)


def addresses():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["resnet-course"]
    return settings["repository"].rstrip("/"), settings["site"].rstrip("/")


def version():
    text = (ROOT / "resnet_course" / "__init__.py").read_text()
    return re.search(r'__version__ = "([^"]+)"', text)[1]


def setup_cell(repository, release):
    archive = f"{repository}/archive/refs/tags/v{release}.zip"
    asked = 'os.environ.get("RESNET_COURSE_SOURCE")'
    parts = {
        "@IMPORTS@": IMPORTS.lstrip("\n") if repository else "",
        "@FETCH@": FETCH.lstrip("\n") if repository else "",
        "@SOURCE@": f'SOURCE = (\n    {asked}\n    or "{archive}"\n)'
        if repository
        else f"SOURCE = {asked}",
        "@NEEDED@": ", ".join(release.split(".")),
        "@RELEASE@": release,
    }
    text = SETUP.strip() + "\n\n" + START
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return text


KEEP = (
    "In Colab or Kaggle, first save a copy (File → Save a copy): your work is kept only in your "
    "own copy."
)


def header_cell(repository, site, name):
    if not repository:
        return (
            "*Reading this as a notebook? It holds no pictures yet: run it from top to bottom and "
            f"they appear. {KEEP}*"
        )
    owner_and_name = repository.removeprefix("https://github.com/")
    colab = (
        f"https://colab.research.google.com/github/{owner_and_name}/blob/v{version()}/book/{name}"
    )
    page = f"{site}/book/{name.removesuffix('.ipynb')}.html"
    return (
        f"*[Read this chapter with all its figures]({page}) or [run it in Colab]({colab}). {KEEP}*"
    )


def cell_id(text, taken):
    """A short id from the cell's text, so that ids change only where cells change."""
    number = 0
    while True:
        value = hashlib.sha256(f"{text}{number or ''}".encode()).hexdigest()[:8]
        if value not in taken:
            taken.add(value)
            return value
        number += 1


def numbered(source, name):
    """The title of a chapter with its number, which is in its file's name: `# 03 · Its title`."""
    number = re.match(r"(\d\d)_", name)
    title = re.match(r"# (?:\d\d · )?(.+)", source)
    if not number or not title:
        return source
    return f"# {number[1]} · {title[1]}" + source[title.end() :]


def page_tags(tags, number, folded):
    """The tags of a cell, with those that say what the page does with it."""
    tags = {tag for tag in tags if not tag.startswith(("hide-", "remove-"))}
    if "course-header" in tags:  # it speaks to readers of the notebook
        tags.add("remove-cell")
    if "course-setup" in tags:  # its output, too: it says where the page was made
        tags.add("hide-cell")
    if number in folded:
        tags.add(fold.FOLDED)
    return sorted(tags)


def synced_notebook(text, name, repository, site, release):
    notebook = nbformat.reads(text, as_version=4)
    folded = fold.folded(notebook.cells)
    generated = {
        "course-header": header_cell(repository, site, name),
        "course-setup": setup_cell(repository, release),
    }
    taken, count = set(), 0
    for number, cell in enumerate(notebook.cells):
        tags = page_tags(cell.metadata.get("tags", []), number, folded)
        cell.metadata = {"tags": tags} if tags else {}
        for tag, source in generated.items():
            if tag in tags:
                cell.source = source
        cell.source = cell.source.strip("\n")
        if cell.cell_type == "markdown":
            cell.source = numbered(evidence_labels(cell.source), name)
        cell.id = cell_id(cell.source, taken)
        if cell.cell_type == "code":
            count += 1
            if COMPARED in tags and cell.outputs:
                cell.execution_count = count
                for output in cell.outputs:
                    if "execution_count" in output:
                        output.execution_count = count
                    if "metadata" in output:
                        output.metadata = {}
            else:
                cell.outputs, cell.execution_count = [], None
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return nbformat.writes(notebook, indent=1) + "\n"


def between_marks(text, block, opening="# >>> repository", closing="# <<< repository"):
    before, rest = text.split(opening)
    after = rest.split(closing)[1]
    return f"{before}{opening}\n{block}{closing}{after}"


def config_block(repository, release):
    if not repository:
        return ""
    return (
        f"repository:\n  url: {repository}\n  branch: v{release}\n"
        "launch_buttons:\n  colab_url: https://colab.research.google.com\n"
    )


def readme_block(repository, site):
    if not repository:
        return ""
    return f"Read it: [{site}]({site}). Source: [{repository}]({repository}).\n"


def citation_block(repository, release):
    lines = [f"version: {release}"]
    if repository:
        lines.append(f"repository-code: {repository}")
    return "\n".join(lines) + "\n"


def about_exercises():
    """{number: (kind, level, what it asks)}, without importing the package (and torch with it)."""
    source = (ROOT / "resnet_course" / "exercises" / "index.py").read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "ABOUT":
            return ast.literal_eval(node.value)
    sys.exit("sync: resnet_course/exercises/index.py has no ABOUT")


def exercise_index():
    """Markdown tables of every exercise, from the chapters' headings; links to the built pages."""
    lines, about = [], about_exercises()
    for path in sorted((ROOT / "book").glob("[0-9]*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        title = cells[0].source.splitlines()[0].removeprefix("# ")
        lines += [
            "",
            f"## {title}",
            "",
            "| exercise | in one line | kind | level |",
            "|---|---|---|---|",
        ]
        for cell in cells:
            headings = re.findall(r"^### Exercise ([\d.]+) · (.+)$", cell.source, re.M)
            for number, title in headings if cell.cell_type == "markdown" else ():
                anchor = re.sub(r"[^a-z0-9]+", "-", f"exercise {number} {title}".lower()).strip("-")
                link = f'<a href="{path.stem}.html#{anchor}">{number} {title}</a>'
                kind, level, asks = about.get(number, ("build", 1, "(not in the index yet)"))
                lines.append(f"| {link} | {asks} | {kind} | {level} |")
    return "\n".join(lines) + "\n"


def generated_files(names=()):
    """{path: the text it must have}, for the notebooks of these names, or everything"""
    (repository, site), release = addresses(), version()
    wanted = {}
    notebooks = sorted((ROOT / "book").glob("*.ipynb"))
    for path in notebooks:
        if not names or path.stem in names:
            wanted[path] = synced_notebook(path.read_text(), path.name, repository, site, release)
    if names:
        return wanted
    for name, block, marks in (
        ("_config.yml", config_block(repository, release), ()),
        ("CITATION.cff", citation_block(repository, release), ()),
        ("README.md", readme_block(repository, site), ("<!-- >>> -->", "<!-- <<< -->")),
        ("book/exercises.md", exercise_index(), ("<!-- >>> -->", "<!-- <<< -->")),
    ):
        path = ROOT / name
        wanted[path] = between_marks(path.read_text(), block, *marks)
    return wanted


def set_repository(url):
    """Write the address and, for GitHub, the address of its Pages into pyproject.toml."""
    url = url.rstrip("/").removesuffix(".git")
    match = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", url)
    if url and not match:
        sys.exit(
            f"sync: {url!r} is not an address like https://github.com/owner/name "
            "(Colab opens notebooks from GitHub); an empty one unsets it."
        )
    site = f"https://{match[1]}.github.io/{match[2]}" if match else ""
    path = ROOT / "pyproject.toml"
    text = re.sub(r'^repository = ".*"', f'repository = "{url}"', path.read_text(), flags=re.M)
    path.write_text(re.sub(r'^site = ".*"', f'site = "{site}"', text, flags=re.M))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="change nothing, fail if out of step")
    parser.add_argument("--repository", metavar="URL", help="https://github.com/owner/name, or ''")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a notebook, like 03_degradation")
    options = parser.parse_args()
    if options.repository is not None:
        set_repository(options.repository)
    wanted = generated_files(options.names)
    stale = [path for path, text in wanted.items() if path.read_text() != text]
    for path in stale:
        if options.check:
            print(f"{path.relative_to(ROOT)} is out of step with its source: run `make sync`")
        else:
            path.write_text(wanted[path])
            print(f"wrote {path.relative_to(ROOT)}")
    sys.exit(1 if options.check and stale else 0)


if __name__ == "__main__":
    main()
