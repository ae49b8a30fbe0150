"""Run the notebooks and store the text outputs that nbval compares: outputs.py [NAME ...]

Only cells tagged `nbval-check-output` keep what they printed. Look at the difference before you
commit it: this is how an expectation changes.
"""

import sys

import nbformat
from nbclient import NotebookClient
from sync import COMPARED, ROOT, addresses, synced_notebook, version


def merge_streams(cell):
    """One output for what a cell printed: a busy machine delivers it in pieces."""
    outputs = cell.get("outputs", [])
    printed = [output for output in outputs if output.get("name") == "stdout"]
    if len(printed) > 1:
        printed[0].text = "".join(output.text for output in printed)
        cell.outputs = [output for output in outputs if output not in printed[1:]]


def main(names):
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        notebook = nbformat.read(path, as_version=4)
        if not any(COMPARED in cell.metadata.get("tags", []) for cell in notebook.cells):
            continue
        print(f"running {path.name}")
        NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}).execute()
        for cell in notebook.cells:
            merge_streams(cell)
        text = synced_notebook(nbformat.writes(notebook), path.name, *addresses(), version())
        path.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
