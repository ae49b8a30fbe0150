"""What a page hands out: its chapter as a notebook that runs anywhere, and a button for Kaggle.

The theme's download button points to the copy of a page's source in `_sources`. After the build,
each notebook there becomes a portable one (tools/portable.py), and the trained networks lie beside
the logs, for notebooks that fetch them from the site.
"""

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import portable
import sync

KAGGLE = "https://www.kaggle.com/kernels/welcome?src="


def name_the_repository(app, config):
    """The theme's buttons for Colab need the repository, in the options of the theme itself.

    `repository` and `launch_buttons` of _config.yml do not get there: its `html_theme_options`
    replace what Jupyter Book makes of them.
    """
    if (Path(app.srcdir) / "pyproject.toml").exists() and (repository := sync.addresses()[0]):
        config.html_theme_options |= {
            "repository_url": repository,
            "repository_branch": f"v{sync.version()}",
            "launch_buttons": {"colab_url": "https://colab.research.google.com"},
        }


def label_buttons(app, pagename, templatename, context, doctree):
    """Say what the download is, and add Kaggle beside Colab where a repository is configured."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("label") == "download-source-button" and button["text"] == ".ipynb":
                button["tooltip"] = "Download this chapter as a notebook that runs anywhere"
        if group.get("label") == "launch-buttons":
            colab = [b["url"] for b in group["buttons"] if b["text"] == "Colab"]
            for url in colab:
                group["buttons"].append(
                    {
                        "type": "link",
                        "text": "Kaggle",
                        "tooltip": "Launch on Kaggle",
                        "icon": "fab fa-kaggle",
                        "url": KAGGLE
                        + url.replace("colab.research.google.com/github", "github.com"),
                    }
                )


def leave_stills_out(app, pagename, templatename, context, doctree):
    """Drop the still pictures that notebooks have for a Jupyter that does not trust them."""
    if "course-still" in context.get("body", ""):
        from resnet_course.teaching import still

        context["body"] = still.without(context["body"])


def carry_the_package(app, exception):
    """Write the portable notebooks over the copies that the page's buttons point to."""
    root, sources = Path(app.srcdir), Path(app.outdir) / "_sources"
    if exception or app.builder.name != "html" or not (root / "resnet_course").is_dir():
        return  # a preview of one page has no package beside it
    packed = None
    for copy in sorted(sources.rglob("*.ipynb")):
        original = root / copy.relative_to(sources)
        if not original.exists():
            continue
        text = original.read_text(encoding="utf-8")
        if "course-setup" not in text:
            continue
        packed = packed or portable.package(root)
        text = portable.portable(text, packed, sync.version(), root)
        if copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
    for weights in (root / "book" / "recorded").glob("*.pt") if packed else ():
        target = sources / weights.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, target)


def setup(app):
    app.connect("config-inited", name_the_repository)
    app.connect("html-page-context", label_buttons, priority=900)
    app.connect("html-page-context", leave_stills_out)
    app.connect("build-finished", carry_the_package)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
