"""Which exercises pass: kept in a small file, and only when asked.

`keep("my_progress.jsonl")` asks, as does the environment variable RESNET_COURSE_PROGRESS. From then
on each check adds one line to that file. `show()` reads it.
"""


def note(number, status):
    """Adds one verdict to the file, if one was asked for."""
