"""Sphinx extension of this book: no stale figures, and pages that ask no other host.

jupyter-cache decides from a notebook's cells alone whether to run it again. Here the cache also
depends on everything else that makes a figure: the package, the recorded logs, the pinned and the
installed versions. Loaded by `_config.yml`, so plain `jupyter-book build .` behaves the same.
"""

import hashlib
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import run_chapters
from docutils import nodes
from sphinx.util import logging

LIBRARIES = ["torch", "torchvision", "numpy", "scikit-learn", "matplotlib", "ipywidgets"]
CACHES_KEPT = 3  # so that going back to the last branch is quick too


def add_files(sha, folders, single=()):
    """Feed files, and all that is in folders, to a hash: names and contents."""
    inside = [sorted(f for f in d.rglob("*") if "__pycache__" not in f.parts) for d in folders]
    for file in [*single, *(file for files in inside for file in files)]:
        if file.is_file():
            sha.update(file.name.encode() + b"\0" + file.read_bytes())
    return sha.hexdigest()[:16]


def fingerprint(root):
    """Hash of all that a chapter's outputs depend on, except its own cells."""
    sha = hashlib.sha256(platform.python_version().encode())
    for name in LIBRARIES:
        try:
            sha.update(f"{name} {version(name)}".encode())
        except PackageNotFoundError:
            sha.update(f"{name} missing".encode())
    spec = find_spec("resnet_course")
    folders = [Path(place) for place in spec.submodule_search_locations] if spec else []
    pins = [root / "requirements.txt", root / "constraints.txt"]
    return add_files(sha, [*folders, root / "book" / "recorded"], pins)


def choose_cache(app, config):
    """One execution cache for each fingerprint; Sphinx reads all pages anew when it changes."""
    config.course_fingerprint = fingerprint(Path(app.srcdir))
    static = Path(app.srcdir) / "book" / "_static"
    config.course_look = add_files(hashlib.sha256(), [static], [Path(__file__)])
    caches = Path(app.outdir).parent / ".jupyter_cache"
    cache = caches / config.course_fingerprint
    cache.mkdir(parents=True, exist_ok=True)
    cache.touch()
    folders = [folder for folder in caches.iterdir() if folder.is_dir()]
    for old in sorted(folders, key=lambda f: f.stat().st_mtime)[:-CACHES_KEPT]:
        shutil.rmtree(old)
    config.nb_execution_cache_path = str(cache)


def run_what_changed(app, env, docnames):
    """Before Sphinx reads the pages: execute those notebooks among them that the cache lacks."""
    paths = [Path(env.doc2path(name)) for name in docnames]
    recorded = Path(app.srcdir) / "book" / "recorded" / "chapters.json"
    say = logging.getLogger("course_book").info
    notebooks = [path for path in paths if path.suffix == ".ipynb"]
    try:
        run_chapters.execute(notebooks, app.config.nb_execution_cache_path, recorded, say)
    except run_chapters.ChapterFailed as failure:
        # Not as an exception of Sphinx: jupyter-book would put a hundred lines of its own below.
        sys.stderr.write(f"\nThe book was not built: a chapter could not be executed.\n{failure}\n")
        raise SystemExit(1) from None


def is_math(node):
    return isinstance(node, nodes.math | nodes.math_block)


def clean_scripts(app, pagename, templatename, context, doctree):
    """Drop scripts that this book has no use for, and load the others once.

    sphinx-thebe adds its constant twice though thebe is off, and MathJax arrives twice: both are
    errors in the browser's console. The toggle buttons have nothing to toggle here.
    """
    kept, seen = [], set()
    has_math = doctree is not None and any(doctree.findall(is_math))
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", None) or "")
        body = getattr(script, "attributes", {}).get("body") or ""
        key = name.split("?")[0] or body
        if "thebe" in key.lower() or "togglebutton" in key or key in seen:
            continue
        if "mathjax" in key.lower() and not has_math:  # 2 MB that a page of plain text saves
            continue
        seen.add(key)
        kept.append(script)
    context["script_files"] = kept


def tidy(app, exception):
    """Take out what the theme leaves behind: templates, and messages to developers in scripts."""
    static = Path(app.outdir) / "_static"
    for left in static.glob("*webpack-macros.html"):
        left.unlink()
    for script in (static / "scripts").glob("*.js"):
        text = script.read_text(encoding="utf-8")
        quiet = re.sub(r"console\.log\((`[^`]*`|\"[^\"]*\")\)", "void 0", text)
        if quiet != text:
            script.write_text(quiet, encoding="utf-8")


def name_the_landmarks(app, exception):
    """Two things for screen readers that neither Markdown nor the theme can say.

    The side bar holds the logo outside any landmark; and the empty corner of a table is no header.
    """
    if app.builder.name != "html" or exception:
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        bar = '<div class="bd-sidebar-primary bd-sidebar">'
        named = bar.replace("<div", '<div role="complementary" aria-label="The book"')
        better = text.replace(bar, named).replace('<th class="head"><p></p></th>', "<td></td>")
        if better != text:
            page.write_text(better, encoding="utf-8")


def setup(app):
    app.setup_extension("hand_out")  # portable notebooks
    app.add_config_value("course_fingerprint", "", "env")
    app.add_config_value("course_look", "", "html")  # else a changed style sheet is not copied
    app.connect("config-inited", choose_cache)
    app.connect("env-before-read-docs", run_what_changed)
    app.connect("html-page-context", clean_scripts, priority=990)
    app.connect("build-finished", tidy)
    app.connect("build-finished", name_the_landmarks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
