"""The small package behind the course *ResNet from the Ground Up*.

The subject stands on top, to be read in this order: `resnet` (the networks), `batch_norm`, `train`,
`probe` (measurements). Everything else has a room: `data` (what is learned from), `teaching`
(figures, sliders, checks, quizzes), `exercises` (one module a chapter), `reproduce` (runs that take
longer than a cell, and their logs).
"""

__version__ = "1.0.0"
