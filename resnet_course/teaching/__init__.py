"""What the chapters teach with, whatever the subject.

`plot` and `diagram` draw, `explore` adds sliders, `check` answers an exercise, `quiz` asks. `trace`
(what a forward pass does, for `diagram`) and `markup` (HTML) serve them. Nothing in here knows the
networks, the data or the training.
"""
