"""The small package behind the course *ResNet from the Ground Up*.

Read it in this order: `resnet` (the networks), `batch_norm`, `data`, `train`, `probe`
(measurements), `plot`, `diagram`, `explore`. Then `check` and `quiz` (the exercises are in
`exercises`), and `reproduce` with `recorded` (runs that take longer than a cell). Except for the
last two, no module knows another; the notebooks put them together.
"""

__version__ = "0.2.0"
