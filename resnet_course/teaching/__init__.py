"""What the chapters teach with, whatever the subject.

- figures: `plot`, `diagram` (from a forward pass that `trace` has noted), `explore` (sliders),
  `network` (a trained network that runs inside the page); `still` and `markup` serve them
- exercises: `check` answers, with `judge` (which mistake is it?) and `unchanged` (what did the
  answer leave behind?); `quiz` asks; `progress` tells which exercises pass
- `libraries` completes what a notebook needs, wherever it is opened

Nothing in here knows the networks, the data or the training.
"""
