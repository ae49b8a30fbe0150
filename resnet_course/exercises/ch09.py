"""Chapter 09, Why it works: the evidence: checks and quiz."""

import math
import random

import torch
from torch import nn

from resnet_course import resnet
from resnet_course.teaching.check import call, choice, close, exercise, expect, number, show, tensor
from resnet_course.teaching.quiz import Question


def _warm(model, size):
    """Batch norms with statistics and numbers of their own, so that nothing is 0 or 1 by luck."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    for _ in range(3):
        model(torch.randn(16, size, 8, 8))
    return model.eval()


@exercise(
    "9.1",
    expects="a function of a network and a number",
    right="what you return computes the network without that block, for plain and residual "
    "networks and for blocks that change the shape, and the network you were given is as it was.",
)
def remove_block(attempt):
    """A function: (network, k) -> a copy whose k-th block, counted from 1, is its shortcut."""
    for build, depth, numbers in (
        (resnet.cifar_resnet, 14, (1, 2, 3, 6)),
        (resnet.cifar_plain, 14, (2, 5)),
        (resnet.cifar_resnet, 8, (3, 2)),
    ):
        model = _warm(build(depth, in_channels=1), 1)
        for k in numbers:
            _judge_removal(
                attempt, model, k, "plain" if build is resnet.cifar_plain else "residual"
            )


def _judge_removal(attempt, model, k, kind):
    images = torch.randn(5, 1, 8, 8)
    got = call(attempt, model, k, hint=1)
    expect(
        isinstance(got, nn.Module),
        f"Expected a network, got {show(got)}.",
        1,
    )
    what = f"block {k} of a {kind} network with {_count(model)} blocks"
    expect(
        not any(module.training for module in got.modules() if isinstance(module, nn.BatchNorm2d)),
        "The copy came back in training mode: its batch norms would use the batch's statistics.",
        1,
    )
    with torch.no_grad():
        wanted = _run(model, images, off={k})
        try:
            out = got(images)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:80]
            expect(
                False,
                f"Without {what} the shapes no longer fit ({said}): a block that changes the "
                "shape leaves its shortcut of option A.",
                2,
            )
        known = [
            (_run(model, images), "nothing was removed"),
            (_run(model, images, off={k + 1}), "the block behind it was removed: count from 1"),
            (_run(model, images, off={k - 1}), "the block in front of it was removed"),
            (_run(model, images, off=set(range(1, k + 1))), "those in front of it are gone too"),
            (_run(model, images, zero={k}), "the block gives zeros; its shortcut must stay"),
            (_run(model, images, half={k}), "only the block's second convolution is gone"),
        ]
    out = tensor(out, (5, 10), "the logits")
    if not close(out, wanted, 1e-3):
        why = next((why for value, why in known if close(out, value, 1e-3)), None)
        why = why or "the logits are those of another network"
        expect(False, f"Not the network without {what}: {why}.", 2)


def _blocks(model):
    return [block for layers in (model.layer1, model.layer2, model.layer3) for block in layers]


def _count(model):
    return len(_blocks(model))


def _run(model, images, off=(), zero=(), half=()):
    """The forward pass in evaluation mode, block by block, with some of them changed."""
    x = model.relu(model.bn1(model.conv1(images)))
    for k, block in enumerate(_blocks(model), 1):
        conv = block.conv1
        past = resnet.option_a(conv.in_channels, conv.out_channels, conv.stride[0])(x)
        if k in zero:
            x = torch.zeros_like(past)
        elif k in half:
            out = block.relu(block.bn1(block.conv1(x)))
            x = block.relu(out + past) if hasattr(block, "downsample") else out
        else:
            x = past if k in off else block(x)
    return model.fc(x.mean((2, 3)))


@exercise(
    "9.2",
    expects="a function of three whole numbers",
    right="your counts agree with going through all paths one by one, for up to 10 blocks.",
)
def count_paths(attempt):
    """A function: (blocks, through, removed) -> paths left that go through so many blocks."""
    cases = [(8, 2, 2), (9, 4, 3), (7, 0, 2), (5, 4, 3), (10, 5, 5), (6, 6, 0), (3, 2, 0)]
    for blocks, through, removed in cases:
        gone = set(random.sample(range(blocks), removed))
        wanted = sum(
            bin(path).count("1") == through and not any(path >> block & 1 for block in gone)
            for path in range(2**blocks)
        )
        got = number(call(attempt, blocks, through, removed), "the number of paths")
        left = blocks - removed
        known = [
            (math.comb(blocks, through), "with the removed blocks still in"),
            (2**left, "all paths that are left, of any length"),
            (2**blocks, "all paths of the whole network"),
            (math.comb(blocks, through) - math.comb(removed, through), _TOO_FEW_TAKEN),
            (math.comb(blocks, through) - removed, "each removed block cuts many paths, not one"),
            (math.perm(left, through), "the order of the blocks in a path is fixed, not chosen"),
            (
                math.comb(left, max(through - removed, 0)),
                "the blocks gone through are all among those left",
            ),
            (math.comb(max(left - 1, 0), through), "one block too many was taken away"),
            (math.comb(blocks, through) * left / blocks, "paths do not thin out in proportion"),
            (math.comb(blocks, through) / 2**removed, "that many are left of *all* lengths"),
            (left**through, "a path goes through a block once at most"),
        ]
        why = next((why for value, why in known if abs(got - value) < 1e-6), None)
        why = why or "choose the blocks to go through from those that are left"
        expect(
            got == wanted,
            f"Of {blocks} blocks {removed} are removed: expected {wanted} paths through "
            f"{through}, got {got:g}: {why}.",
            2,
        )


_TOO_FEW_TAKEN = "a path is cut by *one* removed block; it need not lie in removed ones only"


@exercise(
    "9.3",
    expects="a function of a list of numbers",
    right="your lists agree with multiplying out, for lists of 1 to 6 factors, negative ones and "
    "zeros among them.",
)
def by_length(attempt):
    """A function: factors f of blocks x + f x -> what paths of each length carry, a list."""
    for factors in (
        [0.5],
        [2.0, 3.0],
        [1.0, 0.0, -1.0, 4.0],
        [random.uniform(-2, 2) for _ in range(6)],
        [0.3] * 5,
    ):
        got = call(attempt, list(factors), hint=1)
        expect(
            isinstance(got, list | tuple | torch.Tensor) or hasattr(got, "tolist"),
            f"Expected a list of numbers, got {show(got)}.",
            1,
        )
        got = got.tolist() if hasattr(got, "tolist") else list(got)
        got = got if isinstance(got, list) else [got]
        values = [number(value, "each length") for value in got]
        wanted = _multiplied_out(factors)
        if len(values) == len(wanted) and close(torch.tensor(values), torch.tensor(wanted), 1e-4):
            continue
        why, hint = _why_lengths(values, wanted, factors)
        said = f"For {len(factors)} blocks" if len(factors) > 1 else "For one block"
        expect(False, f"{said} the list is not right: {why}.", hint)


def _multiplied_out(factors):
    parts = [1.0]
    for factor in factors:
        parts = [
            (parts[k] if k < len(parts) else 0.0) + (factor * parts[k - 1] if k else 0.0)
            for k in range(len(parts) + 1)
        ]
    return parts


def _why_lengths(values, wanted, factors):
    n = len(factors)

    def like(other):
        return len(values) == len(other) and close(
            torch.tensor([float(v) for v in values]), torch.tensor([float(v) for v in other]), 1e-4
        )

    counts = [math.comb(n, k) for k in range(n + 1)]
    mean = sum(factors) / n
    same = [counts[k] * mean**k for k in range(n + 1)]
    running = [1.0]
    for factor in factors:
        running.append(running[-1] * factor)
    powers = [1.0] + [sum(f**k for f in factors) for k in range(1, n + 1)]
    pairs = [
        (wanted[1:], "length 0, the way around every block, is missing", 1),
        (wanted[::-1], "it begins with the longest path; begin with length 0", 1),
        (wanted[:-1], "the longest path, through all blocks, is missing", 1),
        (counts, "those are the *numbers* of paths; a path carries the product of its factors", 2),
        ([w / c for w, c in zip(wanted, counts, strict=True)],
         "that is the *mean* of the paths of a length; take their sum", 2),
        (same, "every factor was taken for the mean one", 2),
        (running, "only one path of each length is there, through the first blocks", 2),
        (powers, "paths of length k go through k *different* blocks", 2),
        ([sum(wanted)], "that is all paths together; keep one number for each length", 1),
        ([sum(wanted[: k + 1]) for k in range(n + 1)],
         "the shorter paths were added in as well", 2),
        ([abs(w) for w in wanted], "signs were lost: paths can cancel each other", 2),
    ]  # fmt: skip
    for other, why, hint in pairs:
        if like(other) and not like(wanted):
            return why, hint
    if len(values) != len(wanted):
        return f"{n} blocks have paths of {n + 1} lengths, 0 among them; got {len(values)}", 1
    return "at each block what goes through F moves one place on, the rest stays", 2


@exercise(
    "9.4",
    expects="a function of a weight and a direction",
    right="each filter of your direction has the length of the weight's filter and the direction "
    "it had, for convolutions and for a linear layer.",
)
def normalize_filters(attempt):
    """A function: (weight, direction) -> the direction, filter by filter as long as the weight."""
    for shape in ((4, 3, 3, 3), (6, 2, 1, 1), (5, 7), (1, 3, 3, 3)):
        scale = torch.rand(shape[0], *[1] * (len(shape) - 1)) * 4 + 0.2
        weight = torch.randn(shape) * scale
        direction = torch.randn(shape) * torch.rand(scale.shape) * 3
        what = f"a weight of shape {shape}"
        got = tensor(call(attempt, weight, direction), shape, f"the direction for {what}")
        wanted = _filter_normalized(weight, direction)
        if not close(got, wanted, 1e-4):
            expect(False, f"For {what}: {_why_filters(got, weight, direction)}.", 2)


def _length(weight):
    return weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))


def _filter_normalized(weight, direction):
    return direction * _length(weight) / _length(direction)


def _why_filters(got, weight, direction):
    weight, direction = weight.double(), direction.double()
    whole = direction * weight.norm() / direction.norm()
    own, drawn = _length(weight), _length(direction)
    rows = tuple(range(1, weight.dim()))
    largest = direction * weight.abs().amax(rows, True) / direction.abs().amax(rows, True)
    sums = direction * weight.abs().sum(rows, True) / direction.abs().sum(rows, True)
    inputs = (0, *range(2, weight.dim()))
    by_input = (
        direction
        * (weight.square().sum(inputs, True) / direction.square().sum(inputs, True)).sqrt()
    )
    squared = direction * (own / drawn) ** 2
    pixel = direction * weight.abs() / direction.abs()
    known = [
        (direction, "the direction came back as it was"),
        (direction / drawn, "every filter has length 1, not that of the weight's filter"),
        (direction * own, "it was multiplied by the weight's length, but not divided by its own"),
        (whole, "the whole tensor has the right length; each *filter* must have its own"),
        (direction * drawn / own, "the ratio is upside down"),
        (by_input, "the lengths were taken for each *input* channel; a filter is `weight[i]`"),
        (squared, "the squares were compared; take the root"),
        (sums, "the sums of absolute values were made equal; the length is the Euclidean norm"),
        (largest, "the largest entries were made equal, not the lengths"),
        (pixel, "every single number was rescaled, so the direction is another one"),
        (weight * drawn / own, "that is the *weight*, rescaled; the direction is the other one"),
        (weight, "that is the weight itself"),
    ]
    for other, why in known:
        if close(got, other, 1e-4):
            return why
    lengths = _length(got)
    if close(lengths, own, 1e-4):
        return "the lengths are right, but the filters no longer point where they did"
    return "the filters do not have the lengths of the weight's filters"


@exercise(
    "9.5",
    expects="a function of x, branch, shortcut, survival and training",
    right="in training F is there in the right share of the draws, the shortcut always, and in "
    "evaluation the result is the mean of the training results.",
)
def mend_depth(attempt):
    """A function: (x, branch, shortcut, survival, training) -> output of the block, before ReLU."""
    for survival in (0.75, 0.35, 1.0):
        x, weight = torch.randn(3, 4) + 2, torch.randn(4, 4)

        def branch(value, weight=weight):
            return value @ weight + 1

        def shortcut(value):
            return 3 * value

        f, s = branch(x), shortcut(x)
        _judge_evaluation(attempt, x, branch, shortcut, survival, f, s)
        _judge_training(attempt, x, branch, shortcut, survival, f, s)


def _ask(attempt, x, branch, shortcut, survival, training):
    got = attempt(x.clone(), branch, shortcut, survival, training)
    expect(got is not None, "The function returned None: does it end with `return`?", None)
    mode = "training" if training else "evaluation"
    return tensor(got, x.shape, f"the output in {mode}")


def _judge_evaluation(attempt, x, branch, shortcut, survival, f, s):
    got = [_ask(attempt, x, branch, shortcut, survival, False) for _ in range(60)]
    expect(
        all(close(one, got[0], 1e-6) for one in got),
        "In evaluation the output changes from call to call: nothing may be drawn there.",
        1,
    )
    if close(got[0], s + survival * f, 1e-4):
        return
    known = [
        (s + f, "F came in full: it was there only in a share of the training steps"),
        (s + (1 - survival) * f, "F was weighted with the share of steps in which it was *gone*"),
        (s, "F is missing: in evaluation every block works, weighted"),
        (survival * (s + f), "the shortcut was weighted too; it was never dropped"),
        (f * survival, "the shortcut is missing"),
        (f, "the shortcut is missing"),
        (s + f / survival, "F was divided by the share instead of multiplied"),
        (x + survival * f, "x itself was added instead of `shortcut(x)`"),
    ]
    why = next((why for value, why in known if close(got[0], value, 1e-4)), None)
    why = why or "expected `shortcut(x)` plus the share times F"
    expect(False, f"In evaluation: {why}.", 2)


def _judge_training(attempt, x, branch, shortcut, survival, f, s, draws=600):
    got = [_ask(attempt, x, branch, shortcut, survival, True) for _ in range(draws)]
    there = sum(close(one, s + f, 1e-4) for one in got)
    gone = sum(close(one, s, 1e-4) for one in got)
    if there + gone < draws:
        known = [
            (s + survival * f, "F is weighted in every step; in training it is there or gone"),
            (s + f / survival, "F is divided by the share in training *and* weighted afterwards"),
            (torch.zeros_like(s), "the shortcut was dropped together with F"),
            (x + f, "x itself was added instead of `shortcut(x)`"),
            (f, "the shortcut is missing"),
        ]
        odd = next(one for one in got if not close(one, s + f, 1e-4) and not close(one, s, 1e-4))
        why = next((why for value, why in known if close(odd, value, 1e-4)), None)
        whole = any(
            close(one[i], (s + f)[i], 1e-4) or close(one[i], s[i], 1e-4)
            for one in got
            for i in range(len(s))
        )
        why = why or (
            "images of one batch were treated differently; the block is there or gone for all"
            if whole
            else "expected `shortcut(x)`, or `shortcut(x)` plus F"
        )
        expect(False, f"In training: {why}.", 1)
    spread = 5 * math.sqrt(draws * max(survival * (1 - survival), 0.001))
    if abs(there - survival * draws) > spread:
        why = "F was there in too many or too few of the draws"
        if there == draws:
            why = "F was never gone, so nothing is drawn"
        elif there == 0:
            why = "F was never there"
        elif abs(there - (1 - survival) * draws) <= spread:
            why = "F is *gone* with the probability that it should be *there*"
        elif abs(there - draws / 2) <= spread:
            why = "F is there in half of the draws, whatever `survival` says"
        expect(False, f"In training: {why}.", 1)


STANDING = {
    "A": "proved",
    "B": "measured",
    "C": "contested",
    "D": "fell",
    "E": "measured",
    "F": "contested",
}
WORDS = ("proved", "measured", "contested", "fell")
REASONS = {
    ("A", "measured"): "no measurement is needed: it is counting",
    ("A", "contested"): "nobody disputes it: it is counting",
    ("A", "fell"): "it is counting, and it holds",
    ("B", "proved"): "no theorem says so; networks built from identity layers do not do it",
    ("B", "contested"): "the lesions themselves are not in dispute, only how to read them",
    ("B", "fell"): "you saw it in the first figure",
    ("C", "proved"): "paths can be counted, but that they *act* as an ensemble is a reading",
    ("C", "measured"): "the lesions were measured; this is one of two readings of them",
    ("C", "fell"): "it was not refuted: there is another reading beside it",
    ("D", "proved"): "plain networks with batch norm have *growing* gradients at the start",
    ("D", "measured"): "chapter 03 measured the opposite at the start",
    ("D", "contested"): "the original paper already measured against it, as chapter 03 did",
    ("E", "proved"): "it was seen in these networks, along these directions, not derived",
    ("E", "contested"): "the curves are not in dispute; what they explain is",
    ("E", "fell"): "near the solution it was so in all recorded runs",
    ("F", "proved"): "the slices go with better training; nothing shows that they cause it",
    ("F", "measured"): "an intervention on the landscape alone was never made",
    ("F", "fell"): "it was neither shown nor refuted",
}


@exercise(
    "9.6",
    expects='a dictionary like {"A": "proved", ...}',
    right="all six stand where the chapter's evidence leaves them.",
)
def sort_claims(attempt):
    """A dictionary: each claim's letter -> "proved", "measured", "contested" or "fell"."""
    expect(isinstance(attempt, dict), f"Expected a dictionary, got {show(attempt)}.", None)
    missing = [letter for letter in STANDING if letter not in attempt]
    expect(
        not missing, f"Expected a word for each of A to F; {', '.join(missing)} is missing.", None
    )
    words = {letter: choice(attempt[letter], WORDS, f"claim {letter}") for letter in STANDING}
    for letter, wanted in STANDING.items():
        word = words[letter]
        expect(
            word == wanted,
            f'Claim {letter} is not "{word}": {REASONS.get((letter, word))}.',
            2 if wanted == "contested" else 1,
        )


QUIZ = [
    Question(
        "One block is removed from a residual network with 27 blocks. What happens to its paths?",
        [
            ("One of 27 is cut.", "Paths are not blocks: every second path goes through it."),
            (
                "Half of them are cut.",
                "Each path either goes through the block or around it, and as many do either.",
            ),
            (
                "All of them are cut, but the shortcuts repair it.",
                "A path that goes around the block never needed it.",
            ),
        ],
        right=1,
    ),
    Question(
        "In a filter-normalized slice, residual-20 lies in a wider valley than plain-20. What "
        "follows?",
        [
            (
                "Its loss rises slowly in every direction.",
                "Along the gradient's direction it rose at once, as far as plain-20's or further.",
            ),
            (
                "The wide valley is the reason that it trains better.",
                "The two go together. No experiment here changes the valley and nothing else.",
            ),
            (
                "Its loss rises slowly near the solution, in a typical random direction.",
                "That is what such a slice shows, and no more.",
            ),
        ],
        right=2,
    ),
    Question(
        "Why does a landscape in evaluation mode reach losses of hundreds?",
        [
            (
                "The running statistics belong to the unmoved weights, so nothing is normalized "
                "any more.",
                "Each layer's output leaves the range that its batch norm expects, and the next "
                "layer multiplies the error.",
            ),
            (
                "Evaluation mode switches batch norm off.",
                "It still works, with fixed numbers. They no longer fit.",
            ),
            (
                "Random directions are larger in evaluation mode.",
                "The weights are moved by the same amounts in both modes.",
            ),
        ],
        right=0,
    ),
    Question(
        "Plain-56 with a leaky ReLU has gradients as smooth as those of residual-56. What does "
        "this control show?",
        [
            (
                "Leaky networks are residual networks in disguise.",
                "They have no shortcut; both are nearer to a linear map, which is less.",
            ),
            (
                "Smooth gradients do not need shortcuts.",
                "There is at least one other way to have them, with the same depth and the same "
                "layers.",
            ),
            (
                "Shattered gradients cannot be a cause of degradation.",
                "It leaves this open: where the shattering went away, the growing gradients did, "
                "too.",
            ),
        ],
        right=1,
    ),
]
