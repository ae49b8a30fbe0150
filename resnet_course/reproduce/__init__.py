"""Runs that take longer than a cell: made here once, read by the chapters.

    python -m resnet_course.reproduce --networks plain-20 residual-20 --seeds 0 1 --out runs

`command_line` is what this starts, `run` one run, `fast` its arithmetic, `logs` its files on the
disk; `recorded` reads finished runs and trained weights in a notebook.
"""
