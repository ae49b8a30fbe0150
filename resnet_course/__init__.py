"""The small package behind the course *ResNet from the Ground Up*.

Read it in this order: `resnet` (the networks), `data`, `train`, `probe` (measurements), `plot`.
No module imports another; the notebooks put them together.
"""

__version__ = "0.1.0"
