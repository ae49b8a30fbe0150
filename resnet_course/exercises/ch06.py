"""Chapter 06, ResNet-18 to ResNet-152: checks and quiz."""

import math
import random
from itertools import product

import torch
from torch import nn

from resnet_course import probe, resnet
from resnet_course.teaching.check import (
    Mistake,
    call,
    close,
    copied,
    exercise,
    expect,
    fallback,
    judge,
    number,
    row,
    show,
)
from resnet_course.teaching.quiz import Question


@exercise(
    "6.1",
    expects="a function of the kind of block and a block list",
    right="the five networks of the paper, and random block lists of one to seven stages.",
)
def depth_of(attempt):
    """A function: ("basic" or "bottleneck", block list) -> layers with weights."""
    for kind, blocks in [
        ("basic", [3, 4, 6, 3]),
        ("bottleneck", [3, 4, 6, 3]),
        ("basic", [2, 2, 2, 2]),
        ("bottleneck", [3, 4, 23, 3]),
        ("bottleneck", [3, 8, 36, 3]),
    ]:
        got = number(call(attempt, kind, list(blocks)), "the depth")
        wanted, what = _depth(kind, blocks), f"{kind} blocks {blocks}"
        judge(got, wanted, what, _known_depths(kind, blocks), hint=1, figures=True)
    for stages, kind in product((5, 7, 1, 2), ("basic", "bottleneck")):
        blocks = [random.randint(1, 9) for _ in range(stages)]
        try:
            got = call(attempt, kind, list(blocks))
        except (LookupError, ValueError) as error:
            raise Mistake(
                "With another number of stages than four the code stopped "
                f"({type(error).__name__}): a block list may have any length.",
                1,
            ) from error
        got, wanted = number(got, "the depth"), _depth(kind, blocks)
        expect(
            got != _depth(kind, blocks[:4]) or got == wanted,
            "With more than four stages only the first four are counted, but a block list may "
            "have any length.",
            1,
        )
        judge(got, wanted, f"{kind} blocks {blocks}")


def _depth(kind, blocks):
    return {"basic": 2, "bottleneck": 3}[kind] * sum(blocks) + 2


def _known_depths(kind, blocks):
    total, wanted = sum(blocks), _depth(kind, blocks)
    per_block = {"basic": 2, "bottleneck": 3}[kind]
    beside = "the shortcuts' convolutions lie beside the main path"
    other = {
        "basic": (3 * total + 2, "a basic block has two convolutions, not three"),
        "bottleneck": (2 * total + 2, "a bottleneck block has three convolutions, not two"),
    }
    basic = kind == "basic"
    return [
        other[kind],
        (wanted - 2, "the first convolution and the linear layer at the end are missing"),
        (wanted - 1, "one layer outside the blocks is missing: there is one before and one after"),
        (wanted + len(blocks) - 1, beside) if basic else (None, ""),
        (wanted + len(blocks), "what lies beside the main path, as shortcuts do, does not count"),
        (wanted + 1, "one too many; the poolings have no weights"),
        (
            wanted + 2,
            "two too many: the poolings have no weights, and what lies outside the blocks counts "
            "once",
        )
        if basic
        else (None, ""),
        (
            wanted + 2 * len(blocks) - 2,
            "the first convolution and the linear layer are there once, not in every stage",
        ),
        (per_block * sum(blocks[:-1]) + 2, "one of the stages is missing"),
        (6 * blocks[0] + 2, "6n + 2 is the rule of the CIFAR networks; this list has four stages")
        if basic
        else (None, ""),
        (4 * total + 2, "4 is the bottleneck's expansion of channels, not its number of layers"),
        (total, "that is the number of blocks"),
        (total + 2, "each block counts with all its convolutions"),
        (
            per_block * len(blocks) + 2,
            "each stage has as many blocks as its entry in the list says",
        ),
        (per_block * max(blocks) + 2, "the blocks of *all* stages count, not of the longest alone"),
        (per_block * math.prod(blocks) + 2, "the stages follow one another: their blocks add up"),
        (2 * wanted - 1, "batch norm has learned numbers, but is not counted as a layer"),
        (len(blocks), "that is the number of stages; the list says how many blocks each one has"),
    ]


SIZES = ["conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"]


@exercise(
    "6.2",
    expects="a list of six numbers",
    right="ResNet-18 itself, run on 97 × 97 pixels, gives these maps.",
    times=1,
)
def predict_sizes(attempt):
    """Side of the map after conv1, maxpool and each stage, for an input of 97 x 97."""
    got = row(attempt, 6, "the sides", names=[f"the side after {name}" for name in SIZES])
    right = [49, 25, 25, 13, 7, 4]
    whole = {
        (97, *right[:-1]): "the first number is the image's own side, and all others stand one "
        "place too late; begin with the map after the first convolution",
        tuple(right[::-1]): "the six sides are in the opposite order; begin at the image",
        (64, 64, 64, 128, 256, 512): "those are the channels of the maps; their sides are asked "
        "for",
    }
    reason = whole.get(tuple(got))
    expect(reason is None, f"Not the six sides in their order: {reason}.", 2)
    before = 97
    for name, side in zip(SIZES, got, strict=True):
        wanted = before if name == "layer1" else -(-before // 2)
        if side != wanted:
            reason, named = _why_size(name, side, before)
            if side == wanted**2:
                reason, named = "that is the number of pixels; the side is asked for", True
            sentence = f"After {name} you have {side:g}: {reason}."
            raise Mistake(sentence, 1 if side % 1 else 2, named)
        before = wanted
    trace = {row.name: row.output for row in probe.shape_trace(_on_meta(18), (3, 97, 97))}
    assert trace["layer4.1.bn2"] == (512, before, before)


def _why_size(name, side, before):
    """(reason, does it name the mistake?)"""
    if side % 1:
        return "a side is a whole number of pixels", True
    if name == "layer4" and side == 1:
        return "the mean, which leaves one pixel, comes after the last stage", True
    if side == -(-before // 2) + 1 and name != "layer1":
        return f"one too many: from {before}, stride 2 leaves half, rounded up, and no more", True
    if name == "layer1":
        keeps = "the first stage comes right after the max pooling and keeps the size"
        return keeps, True
    if side == before:
        layer = {"conv1": "the first convolution", "maxpool": "the max pooling"}
        layer = layer.get(name, f"the first block of {name}")
        return f"{layer} has stride 2, so the side cannot stay {before}", True
    if name == "conv1" and side == 46:
        return "the 7 × 7 convolution has padding 3", True
    if side == before // 2:
        why = (
            "with its padding, a layer of stride 2 has every second pixel in the middle of its "
            f"window, *the first included*, so the odd one of {before} is not lost"
        )
        return why, True
    if name == "conv1" and side == 112:
        return "that is the paper's table for 224 pixels; here the input has 97", True
    if side == -(-before // 4):
        return f"from {before} pixels that is what two halvings leave, not one", True
    return f"the layer before it gave {before} and this one has stride 2", False


def _on_meta(depth):
    with torch.device("meta"):
        return getattr(resnet, f"resnet{depth}")()


@exercise(
    "6.3",
    expects="a function of costs, batch, memory and limit",
    right="random tables in any order, with budgets that are met exactly among them.",
)
def deepest_that_fits(attempt, costs):
    """(costs, batch, bytes, multiply-adds) -> the deepest network that fits both budgets."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    asked = _telling_budgets()
    empty = []
    got = [_chosen(attempt, *question, empty=empty) for question in asked]
    expect(
        empty or any(depth is not None for depth in got),
        "The function returned None for every table: does it end with `return`?",
    )
    wanted = [CHOICES["right"](*question) for question in asked]
    if got != wanted:
        _explain_choice(asked, got, wanted)
    (many, few) = (CHOICES["right"](costs, batch, 3e9, 5e9) for batch in (32, 16))
    return (
        f"at least {QUESTIONS} random tables and budgets. For 3 GB and 5 G it is ResNet-{many} "
        f"with 32 images, and ResNet-{few} with 16: the batch, too, belongs to the budget."
    )


MEMORY = {  # of parameters, kept bytes and batch: the right one, and what is often written
    "right": lambda p, k, n: 12 * p + n * k,
    "weights alone": lambda p, k, n: 4 * p + n * k,
    "no momentum": lambda p, k, n: 8 * p + n * k,
    "as with Adam": lambda p, k, n: 16 * p + n * k,
    "no bytes": lambda p, k, n: 3 * p + n * k,
    "parameters as bytes": lambda p, k, n: p + n * k,
    "kept alone": lambda p, k, n: n * k,
    "nothing kept": lambda p, k, n: 12 * p,
    "one image": lambda p, k, n: 12 * p + k,
    "all times the batch": lambda p, k, n: n * (12 * p + k),
    "weights times the batch": lambda p, k, n: n * 12 * p + k,
    "bytes twice": lambda p, k, n: 12 * p + 4 * n * k,
    "kept three times": lambda p, k, n: 12 * p + 3 * n * k,
    "two of three times the batch": lambda p, k, n: 4 * p + n * (8 * p + k),
    "batch of 32": lambda p, k, n: 12 * p + 32 * k,
    "no memory": lambda p, k, n: 0,
}
QUESTIONS = 40
GRID = 1_953_125  # 10⁹/2⁹: in GB, GiB or MB a multiple of it is exact, and so is an exact fit


def _random_budget(memory_of, exact):
    """A table in no order, and budgets: an exact one, or one that a rounding cannot change."""
    depths = random.sample(range(10, 200), 6)
    table = {
        depth: tuple(GRID * random.randint(*bounds) for bounds in ((3, 40), (500, 6000), (10, 100)))
        for depth in depths
    }
    batch = random.choice([2, 4, 8, 16, 32])
    one, other = random.sample(depths, 2)
    parameters, _, kept = table[one]
    memory, limit = memory_of(parameters, kept, batch), table[other][1]
    if not exact:
        memory, limit = int(1.001 * memory) + 1, int(1.05 * limit)
    return table, batch, memory, limit


def _telling_budgets():
    """Questions to which every way of choosing, and every two mistakes, answer differently."""
    ways = [*CHOICES.values(), *(choose for choose, _ in _two_mistakes())]
    questions, alike = [], [ways]  # groups of ways that have answered alike so far
    while len(questions) < QUESTIONS or alike:
        memory_of = random.choice(list(MEMORY.values()))
        exact = random.random() < 0.3
        if exact and random.random() < 0.5:
            memory_of = MEMORY["right"]
        question = _random_budget(memory_of, exact)
        if CHOICES["right"](*question) is None:
            continue
        parts = [part for group in alike for part in _by_answer(group, question)]
        if len(questions) < QUESTIONS or len(parts) > len(alike):
            questions.append(question)
            alike = [part for part in parts if len(part) > 1]
    return questions


def _by_answer(ways, question):
    groups = {}
    for choose in ways:
        groups.setdefault(choose(*question), []).append(choose)
    return list(groups.values())


def _chosen(attempt, costs, *budget, empty):
    """The depth that the attempt chooses, or None when it finds that nothing fits.

    `empty` gets an entry where it asked for the largest of nothing, or began at 0 and found none.
    """
    kept = copied(costs)
    try:
        got = attempt(costs, *budget)
    except KeyError as error:
        asked = error.args[0] if error.args else None
        expect(
            not isinstance(asked, int) or asked in costs,
            f"The code asks the table for depth {show(asked)}, which it does not have: take the "
            "depths from the table that is given.",
            1,
        )
        raise
    except ValueError as error:
        if "empty" not in str(error):  # max() of nothing
            raise
        empty.append(error)
        got = None
    expect(
        list(kept.items()) == list(costs.items()),
        "The function changed the table it was given: whoever asks a second time gets another "
        "answer; leave it as it is, or work on a copy.",
    )
    if got is None:
        return None
    several = isinstance(got, list | tuple | set | dict | torch.Tensor) and len(_parts(got)) != 1
    expect(
        not (isinstance(got, tuple | list) and tuple(got) in costs.values()),
        "Expected a depth, got a row of the table: return its key.",
    )
    expect(
        not isinstance(got, list | set | dict) and not several,
        "Expected one depth, got a collection: only the deepest network that fits is asked for.",
    )
    if isinstance(got, int | float) and not isinstance(got, bool) and got <= 0:
        empty.append(got)
        return None
    depth = number(got, "the depth")
    expect(
        depth in costs,
        "Expected one of the depths of the table, its keys, and got another number.",
    )
    return int(depth)


def _parts(got):
    return got.flatten() if isinstance(got, torch.Tensor) else got


def _choose(memory_of, limit_of=lambda limit, batch: limit, fits=all, pick=max, below=None):
    below = below or (lambda need, budget: need <= budget)

    def choose(costs, batch, memory, limit):
        good = {
            depth: row
            for depth, row in costs.items()
            if fits(
                (
                    below(memory_of(row[0], row[2], batch), memory),
                    below(row[1], limit_of(limit, batch)),
                )
            )
        }
        return pick(good) if good else None

    return choose


def _until_one_fails(costs, batch, memory, limit):
    best = None
    for depth in sorted(costs):
        if CHOICES["right"]({depth: costs[depth]}, batch, memory, limit) is None:
            break
        best = depth
    return best


def _halving(costs, batch, memory, limit):
    """Binary search, as if costs grew with the depth."""
    depths = sorted(costs)
    low, high = 0, len(depths) - 1
    while low < high:
        middle = (low + high + 1) // 2
        depth = depths[middle]
        if CHOICES["right"]({depth: costs[depth]}, batch, memory, limit) is None:
            high = middle - 1
        else:
            low = middle
    return depths[low]


def _one_by_one(costs, batch, memory, limit):
    """Parameters and what is kept each alone against the memory."""
    good = [
        depth
        for depth, (parameters, cost, kept) in costs.items()
        if 12 * parameters <= memory and batch * kept <= memory and cost <= limit
    ]
    return max(good, default=None)


def _columns_exchanged(costs, batch, memory, limit):
    turned = {depth: (p, kept, cost) for depth, (p, cost, kept) in costs.items()}
    return CHOICES["right"](turned, batch, memory, limit)


def _partly_strict(memory_strict):
    """Refuses an exact fit of one of the two budgets."""

    def choose(costs, batch, memory, limit):
        good = [
            depth
            for depth, (parameters, cost, kept) in costs.items()
            if 12 * parameters + batch * kept <= memory - memory_strict
            and cost <= limit - (not memory_strict)
        ]
        return max(good, default=None)

    return choose


LIMITS = {
    "limit times the batch": lambda limit, batch: limit * batch,
    "operations": lambda limit, batch: limit / 2,
    "limit of a batch": lambda limit, batch: limit / batch,
    "no limit": lambda limit, batch: math.inf,
}
CHOICES = {
    **{name: _choose(memory_of) for name, memory_of in MEMORY.items()},
    **{name: _choose(MEMORY["right"], limit_of) for name, limit_of in LIMITS.items()},
    "either": _choose(MEMORY["right"], fits=any),
    "shallowest": _choose(MEMORY["right"], pick=min),
    "first": _choose(MEMORY["right"], pick=lambda good: next(iter(good))),
    "last": _choose(MEMORY["right"], pick=lambda good: list(good)[-1]),
    "dearest": _choose(MEMORY["right"], pick=lambda good: max(good, key=lambda d: good[d][1])),
    "largest": _choose(MEMORY["right"], pick=lambda good: max(good, key=lambda d: good[d][0])),
    "hungriest": _choose(MEMORY["right"], pick=lambda good: max(good, key=lambda d: good[d][2])),
    "first of all": lambda costs, *_: next(iter(costs)),
    "last of all": lambda costs, *_: list(costs)[-1],
    "strictly": _choose(MEMORY["right"], below=lambda need, budget: need < budget),
    "memory strictly": _partly_strict(memory_strict=True),
    "limit strictly": _partly_strict(memory_strict=False),
    "as text": _choose(MEMORY["right"], pick=lambda good: max(good, key=str)),
    "halving": _halving,
    "one by one": _one_by_one,
    "columns exchanged": _columns_exchanged,
    "nothing": lambda *_: None,
    "the example's budgets": lambda costs, batch, *_: CHOICES["right"](costs, batch, 3e9, 5e9),
    "until one fails": _until_one_fails,
}
WHY = {
    "weights alone": "training keeps a gradient and a momentum beside each weight",
    "no momentum": "weights and gradients are counted, the momentum is not",
    "as with Adam": "four numbers for each parameter is what Adam keeps; momentum needs three",
    "no bytes": "a parameter is a number of 4 bytes, and the budget is in bytes",
    "parameters as bytes": "three numbers of 4 bytes are kept for each parameter, not one byte",
    "kept alone": "weights, gradients and momentum need memory, too",
    "nothing kept": "what is kept for the backward pass is missing",
    "one image": "what is kept for the backward pass is kept for every image of the batch",
    "all times the batch": "weights, gradients and momentum are there once, not once per image",
    "weights times the batch": "the batch multiplies what each image keeps, not the weights",
    "bytes twice": "what is kept is in bytes already",
    "kept three times": "gradient and momentum belong to the parameters; a map is kept once",
    "two of three times the batch": "gradients and momentum are there once, not once per image",
    "batch of 32": "the batch is the argument, not always 32 images",
    "the example's budgets": "the budgets are the arguments, not always 3 GB and 5 G",
    "limit times the batch": "the limit of multiply-adds is for one image, not for each of a batch",
    "operations": "the table and the limit are both in multiply-adds; nothing is to be doubled",
    "memory strictly": "what needs exactly the *memory* budget still fits",
    "limit strictly": "what needs exactly the limit of multiply-adds still fits",
    "as text": "depths were compared as texts, where 56 comes after 110",
    "halving": "a search by halving needs costs that grow with the depth, and a deeper network may "
    "be the cheaper one",
    "one by one": "parameters and what is kept share one memory: their sum must fit",
    "columns exchanged": "a row is (parameters, multiply-adds, kept bytes); the last two were "
    "exchanged",
    "limit of a batch": "the limit of multiply-adds is for one image, whatever the batch",
    "no limit": "the limit of multiply-adds was not asked",
    "no memory": "the memory was not asked",
    "either": "*both* budgets must hold, not one of them",
    "shallowest": "that is the shallowest network that fits; the deepest was asked for",
    "first": "the table is in no order, and the first row that fits need not be the deepest",
    "last": "the table is in no order, and the last row that fits need not be the deepest",
    "first of all": "no budget was asked, and the table's first row need not be the deepest",
    "last of all": "no budget was asked, and the table's last row need not be the deepest",
    "dearest": "that is the one with the most multiply-adds; the deepest was asked for",
    "largest": "that is the one with the most parameters; the deepest was asked for",
    "hungriest": "that is the one that keeps the most; the deepest was asked for",
    "strictly": "what needs exactly the budget still fits",
    "until one fails": "a deeper network may fit where a shallower one does not: look at all",
}


def _two_mistakes():
    """A mistake about each of the two budgets -> [(how one chooses then, words)]."""
    return [
        (_choose(memory_of, limit_of), f"{WHY[memory]}; and {WHY[limit]}")
        for (memory, memory_of), (limit, limit_of) in product(MEMORY.items(), LIMITS.items())
        if memory in WHY
    ]


def _explain_choice(asked, got, wanted):
    """Names one mistake, or two together, if that gives every answer that came."""
    expect(
        any(depth is not None for depth in got),
        "The function finds nothing that fits, for every table, and one network always fits.",
    )
    single = [(CHOICES[name], why) for name, why in WHY.items()]
    for choose, why in (*single, *_two_mistakes()):
        if [choose(*question) for question in asked] == got:
            raise Mistake(f"Not always the deepest that fits: {why}.", 2)
    i = next(i for i, depth in enumerate(got) if depth != wanted[i])
    table, batch, memory, limit = asked[i]
    what = f"{batch} images, {memory:,} bytes and {limit:,} multiply-adds"
    rows = [(d, *table[d]) for d in (wanted[i], got[i]) if d is not None]
    what += f" (depth, parameters, multiply-adds, kept: {', '.join(map(str, rows))})"
    fallback(wanted[i], "none" if got[i] is None else got[i], what, 2)


@exercise(
    "6.4",
    expects="a function of block, in_channels, channels, num_blocks and stride",
    right="basic and bottleneck stages of one to six blocks, strides 1 to 3: sizes, weights, and "
    "outputs in training and evaluation mode agree with the package's.",
)
def mended_stage(attempt):
    """A function: (block, in_channels, channels, num_blocks, stride) -> a stage."""
    basic, bottleneck = resnet.BasicBlock, resnet.Bottleneck
    drawn = [
        (block, random.randint(2, 12), random.randint(2, 8), random.randint(1, 6), stride)
        for block, stride in ((basic, 1), (basic, 3), (bottleneck, 2), (bottleneck, 3))
    ]
    for block, in_channels, channels, num_blocks, stride in [
        (basic, 6, 8, 4, 2),
        (basic, 8, 8, 3, 1),
        (basic, 6, 10, 3, 1),
        (basic, 8, 8, 2, 2),
        (bottleneck, 6, 4, 3, 2),
        (bottleneck, 16, 4, 2, 1),
        (bottleneck, 6, 4, 2, 1),
        (basic, 4, 8, 1, 2),
        *drawn,
    ]:
        stage = call(attempt, block, in_channels, channels, num_blocks, stride)
        expect(
            not isinstance(stage, nn.ModuleList | list | tuple),
            "A list holds blocks and cannot run them: `nn.Sequential` takes the blocks one by one "
            "(`nn.Sequential(*blocks)`) and passes the map through.",
        )
        expect(
            isinstance(stage, nn.Module),
            f"Expected a module such as `nn.Sequential`, got {show(stage)}.",
        )
        what = f"{num_blocks} {block.__name__}s with stride {stride}".replace("1 B", "one B")
        _judge_stage(stage, block, (in_channels, channels, num_blocks, stride), what)


def _judge_stage(stage, block, arguments, what):
    in_channels, _, num_blocks, stride = arguments
    blocks, sides, entered, widths = (
        [m for m in stage.modules() if isinstance(m, block)],
        [],
        [],
        [],
    )
    expect(
        blocks,
        f"For {what}, no {block.__name__} is inside: the kind of block is the argument `block`.",
        2,
    )

    def note(_, x, y):
        entered.append(x[0].shape[-1])
        sides.append(y.shape[-1])
        widths.append(y.shape[1])

    handles = [m.register_forward_hook(note) for m in blocks]
    x = torch.randn(2, in_channels, 32, 32)
    try:
        y = stage.train()(x)
    except RuntimeError as error:
        expect(
            "channels" not in str(error) and "size of tensor" not in str(error),
            f"For {what} the channels do not fit: the first block expects `in_channels`, and every "
            "later one the `channels * block.expansion` that the one before it puts out.",
            2,
        )
        raise
    for handle in handles:
        handle.remove()
    expect(
        len(sides) != num_blocks or len(blocks) == num_blocks,
        f"For {what}, {len(sides)} blocks run but only {len(blocks)} have weights of their own: "
        "the same block stands in several places, as the *same* one does three times in `[b] * 3`.",
        1,
    )
    expect(
        len(sides) == num_blocks,
        f"Expected {num_blocks} blocks for {what}, but {len(sides)} of them run.",
        2,
    )
    expect(isinstance(y, torch.Tensor), f"Expected a tensor from the stage, got {show(y)}.")
    expect(
        entered[0] == 32,
        f"For {what}, the map is made smaller before the first block; `stride` belongs into that "
        "block.",
        2,
    )
    side, before = math.ceil(32 / stride), [32, *sides]
    smaller = sum(a > b for a, b in zip(before, sides, strict=False))
    blocks = "one block makes" if smaller == 1 else f"{smaller} blocks make"
    allowed = "only the first one may" if stride > 1 else "with stride 1 none may"
    expect(
        y.shape[-1] >= side,
        f"For {what}, 32 pixels come out as {y.shape[-1]} instead of {side}: {blocks} the map "
        f"smaller, and {allowed}.",
        2,
    )
    expect(
        y.shape[-1] == side,
        f"For {what}, 32 pixels come out as {y.shape[-1]} instead of {side}: where did `stride` "
        "go?",
        2,
    )
    expect(
        sides[0] == side,
        f"For {what}, not the first block but a later one makes the map smaller, so the blocks "
        "before it work on more pixels.",
        2,
    )
    expect(
        len(set(widths)) == 1,
        f"For {what}, the blocks do not all put out the same number of channels; in a stage every "
        "block has the same `channels`.",
        2,
    )
    _judge_weights(stage, block, arguments, what, x, y)


def _judge_weights(stage, block, arguments, what, x, y):
    in_channels, channels, num_blocks, stride = arguments
    wanted = resnet.stage(block, in_channels, channels, num_blocks, stride, resnet.option_b)
    names, values = list(wanted.state_dict()), list(stage.state_dict().values())
    sizes = [v.shape for v in wanted.state_dict().values()]
    out = channels * block.expansion
    expect(
        y.shape[1] != out * block.expansion or block.expansion == 1,
        f"For {what}, {y.shape[1]} channels come out instead of {out}: a block multiplies "
        "`channels` by its expansion itself, and here that was done twice.",
        2,
    )
    expect(y.shape[1] == out, f"Expected {out} channels for {what}, got {y.shape[1]}.", 2)
    expect(
        sizes == [v.shape for v in values],
        f"For {what}, {probe.count_parameters(stage):,} parameters and {len(values)} tensors in "
        f"the state dict instead of {probe.count_parameters(wanted):,} and {len(sizes)}: these "
        "are not the weights of its blocks alone, each with `channels` channels inside.",
        2,
    )
    wanted.load_state_dict(dict(zip(names, values, strict=True)))
    own = list(stage.parameters())
    expect(
        len(own) == len(list(wanted.parameters())),
        f"For {what}, {len(own)} different weights instead of {len(list(wanted.parameters()))}: "
        "some layers share theirs with others.",
        1,
    )
    expect(
        all(parameter.requires_grad for parameter in own),
        "The weights of a new stage must be trainable, but some have `requires_grad=False`.",
    )
    for mode in (True, False):
        with torch.no_grad():
            same = close(stage.train(mode)(x), wanted.train(mode)(x))
        mode = "training" if mode else "evaluation"
        if not same:
            sentence = f"For {what}, the outputs in {mode} mode differ from the package's with the "
            raise Mistake(f"{sentence}same weights.", 2, named=False)


@exercise(
    "6.5",
    expects="a function from a state dict to a state dict",
    right="for CIFAR networks of three depths, with and without projections, every name fits with "
    "`strict=True`, and every value is the one that was saved.",
)
def renamed(attempt):
    """A function: state dict with `module.` and `linear.` -> the same for `cifar_resnet`."""
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    for depth, shortcut, classes in ((8, "A", 10), (14, "B", random.randint(2, 9)), (20, "A", 4)):
        network = resnet.cifar_resnet(depth, num_classes=classes, shortcut=shortcut)
        saved = {name: _drawn_like(value) for name, value in network.state_dict().items()}
        state = {"module." + name.replace("fc.", "linear."): v for name, v in saved.items()}
        result = _renamed(attempt, state, depth)
        expect(isinstance(result, dict), f"Expected a dictionary, got {show(result)}.")
        expect(
            all(isinstance(name, str) for name in result),
            "The keys of the new dictionary are not all texts: a state dict has name → tensor.",
            1,
        )
        _judge_names(set(result), set(saved))
        for name in saved:
            _judge_value(name, result[name], saved)
        network.load_state_dict(result, strict=True)


def _renamed(attempt, state, depth):
    """The new dictionary; an error that comes with one depth only is named so."""
    try:
        return call(attempt, dict(state), hint=1)
    except (ValueError, LookupError, RuntimeError) as error:
        if not _works(attempt, depth) and any(_works(attempt, d) for d in (8, 14, 20)):
            raise Mistake(
                "It works for one depth, and for another the code stopped "
                f"({type(error).__name__}): a state of any depth may come.",
                1,
            ) from error
        raise


def _works(attempt, depth):
    """Does it give a dictionary for a network of this depth?"""
    names = resnet.cifar_resnet(depth).state_dict()
    try:
        return isinstance(
            attempt({"module." + n.replace("fc.", "linear."): v for n, v in names.items()}), dict
        )
    except Exception:
        return False


def _drawn_like(value):
    """Random values: no two entries of the state are alike."""
    if value.is_floating_point():
        return torch.rand_like(value) + 0.5
    return torch.randint_like(value, 1, 2**40)


def _judge_value(name, got, saved):
    value = saved[name]
    expect(
        isinstance(got, torch.Tensor),
        f"All names are right, but `{name}` is no tensor any more.",
    )
    if got.shape == value.shape and got.dtype == value.dtype and torch.equal(got, value):
        return
    owner = next(
        (
            n
            for n, v in saved.items()
            if v.shape == got.shape and v.dtype == got.dtype and torch.equal(v, got)
        ),
        None,
    )
    expect(
        owner in (None, name),
        f"All names are right, but `{name}` has the value of `{owner}`: each value must go along "
        "with its own name.",
        2,
    )
    expect(
        got.dtype == value.dtype,
        f"All names are right, but `{name}` has another dtype than what was saved.",
        2,
    )
    turned = value.dim() == 2 and got.shape == value.T.shape and torch.equal(got, value.T)
    expect(not turned, f"All names are right, but the value of `{name}` was transposed.", 2)
    expect(False, f"All names are right, but the value of `{name}` is not the one saved.", 2)


def _judge_names(got, wanted):
    extra, missing = sorted(map(str, got - wanted)), sorted(wanted - got)
    if not extra and not missing:
        return
    first = f"`{(extra or missing)[0][:40]}`"

    def some(condition):
        return next((name[:40] for name in extra if condition(name)), None)

    expect(
        missing,
        f"The name {first} is one too many: all the names of our network are there, and beside "
        "them another.",
        1,
    )
    cut = some(lambda n: any(name.startswith(n + ".") for name in wanted | {"linear."}))
    expect(
        cut is None,
        f"The name `{cut}` has lost its end, so several entries share one name.",
        1,
    )
    tail = some(lambda n: any(name.endswith("." + n) for name in wanted))
    expect(
        tail is None,
        f"The name `{tail}` has lost its beginning, so several entries share one name.",
        1,
    )
    bare = some(lambda n: "." not in n)
    expect(
        bare is None or not any("." in n for n in wanted),
        f"The name `{bare}` has lost its dots; they part the layers of a network.",
        2,
    )
    short = some(lambda n: n.startswith("onv1"))
    expect(
        short is None,
        f"A name came out as `{short}`: one letter too many was cut off; `module.` has seven.",
        2,
    )
    stripped = some(lambda n: n.startswith(("ayer", "inear")))
    expect(
        stripped is None,
        f"A name came out as `{stripped}`, but others are whole: `lstrip` and `strip` take away "
        "any of these *letters*, not a word; `removeprefix` takes the word.",
        2,
    )
    twice = some(lambda n: n.startswith("module.module."))
    expect(
        twice is None,
        f"The name `{twice}` got a second `module.`; the one that is there must go.",
        1,
    )
    prefixed = some(lambda n: n.startswith("module."))
    expect(
        prefixed is None,
        f"The name `{prefixed}` still begins with `module.`, which our network does not know.",
        1,
    )
    linear = some(lambda n: "linear" in n)
    expect(
        linear is None,
        f"The name `{linear}` still says `linear`; our network calls that layer `fc`.",
        1,
    )
    dotted = some(lambda n: n.startswith("."))
    expect(
        dotted is None,
        f"The name `{dotted}` begins with a dot: the dot belongs to the prefix.",
        1,
    )
    doubled = some(lambda n: ".." in n)
    expect(doubled is None, f"The name `{doubled}` has two dots in a row.", 2)
    last = some(lambda n: n.endswith((".weight", ".bias")))
    expect(
        last is None or set(missing) != {"fc.weight", "fc.bias"} or len(extra) != 2,
        f"The last layer came out as `{last}`; our network calls that layer `fc`.",
        1,
    )
    depths = [set(resnet.cifar_resnet(depth).state_dict()) for depth in (8, 14, 20)]
    expect(
        got not in depths,
        "The names are those of a network of another depth than the one that was saved: make them "
        "from the old names.",
        1,
    )
    expect(
        extra or not all("running" in name or "batches" in name for name in missing),
        f"Missing: {first}; the running statistics of batch norm are part of the network too.",
        1,
    )
    expect(extra, f"Missing: {first}; every entry is needed.", 1)
    expect(False, f"The name {first} is not one of our network's; print `list(state)`.", 1)


@exercise(
    "6.6",
    expects="a function of in_channels and out_channels",
    right="every pixel of the input reaches the output, with as many parameters as the strided "
    "projection has; ResNet-D does it the same way (arXiv 1812.01187).",
)
def whole_projection(attempt):
    """A function: (in_channels, out_channels) -> module that halves the side and skips no pixel."""
    drawn = random.randint(5, 9), random.randint(11, 16)
    for in_channels, out_channels in ((4, 10), (6, 24), drawn):
        module = call(attempt, in_channels, out_channels)
        expect(isinstance(module, nn.Module), f"Expected a module, got {show(module)}.")
        x = torch.randn(3, in_channels, 12, 8, requires_grad=True)
        try:
            y = module.train()(x)
        except RuntimeError as error:
            _judge_fit(module, in_channels, out_channels, str(error))
            raise
        expect(isinstance(y, torch.Tensor), f"Expected a tensor from the module, got {show(y)}.")
        expect(y.requires_grad, "The output carries no gradient: leave out `no_grad` and `detach`.")
        _judge_projection(module, in_channels, out_channels, x, y)


def _judge_fit(module, in_channels, out_channels, error):
    """Names the number of channels that a module expects in place of `in_channels`."""

    def takes(channels):
        try:
            module(torch.randn(3, channels, 12, 8))
        except RuntimeError:
            return False
        return True

    expect(
        not takes(out_channels),
        "The two numbers of channels are exchanged: it takes `out_channels` in.",
        2,
    )
    expect(
        not any(takes(channels) for channels in (1, 3, 16, 32, 64, 128, 256)),
        "It takes a fixed number of channels, whatever `in_channels` is.",
        2,
    )
    expect(
        "channels" not in error and "running_mean" not in error,
        "The parts do not fit: how many channels does each one get?",
        2,
    )


def _judge_projection(module, in_channels, out_channels, x, y):
    wanted, got = (3, out_channels, 6, 4), tuple(y.shape)
    reason = {
        (3, out_channels, 12, 8): "nothing halves the side",
        (3, out_channels, 3, 2): "it is halved twice",
        (3, in_channels, 6, 4): "nothing changes the number of channels",
        (3, in_channels, 12, 8): "nothing changes the shape",
        (3, out_channels, 11, 7): "a window of 2 that moves in steps of 1 takes one pixel off",
        (3, out_channels, 1, 1): "the mean of *all* pixels leaves a single one",
        (3, out_channels, 6, 8): "only one of the two sides is halved",
        (3, out_channels, 12, 4): "only one of the two sides is halved",
        (3, out_channels, 5, 3): "that is one pixel too few",
        (3, out_channels, 7, 5): "that is one pixel too many",
        (3, out_channels, 24, 16): "each side is doubled, not halved",
    }.get(got)
    if reason is None and len(got) == 4 and got[2] == got[3]:
        reason = "each side must become half of what it was, not one fixed number"
    expect(
        got == wanted or reason is None,
        f"Expected shape {wanted}, got {got}: {reason}.",
        2,
    )
    if got != wanted:
        fallback(f"shape {wanted}", got, "the output", 2)
    weights, count = in_channels * out_channels, probe.count_parameters(module)
    known = [
        (weights, "γ and β of a batch norm are missing"),
        (weights + out_channels, "a bias in the place of γ and β of a batch norm"),
        (
            weights + 3 * out_channels,
            "batch norm has its own bias, so the convolution needs none",
        ),
        (weights + 4 * out_channels, "one batch norm over `out_channels` is enough"),
        (
            weights + 2 * out_channels + 2 * in_channels,
            "one batch norm, after the convolution, is enough",
        ),
        (
            4 * weights + 2 * out_channels,
            "every pixel of a 2 × 2 square has weights of its own, and they are four",
        ),
        (
            9 * weights + 2 * out_channels,
            "a 3 × 3 kernel reads every pixel, at nine times the weights",
        ),
        (16 * weights + 2 * out_channels, "a 4 × 4 kernel has sixteen times the weights"),
        (
            weights + 2 * out_channels + 4 * in_channels,
            "the pooling has weights of its own, four for each channel; an average needs none",
        ),
        (
            weights + 2 * out_channels + 9 * in_channels,
            "the pooling has weights of its own, nine for each channel; an average needs none",
        ),
        (weights + 2 * in_channels, "batch norm is over `in_channels`, the convolution last"),
    ]
    judge(count, weights + 2 * out_channels, "its parameters", known, 2, figures=True)
    (y * torch.randn_like(y)).sum().backward()
    grad = torch.zeros_like(x) if x.grad is None else x.grad
    _judge_pixels((grad != 0).float())
    expect(
        not bool((y >= 0).all()),
        "No number of the output is negative: something after the batch norm, such as a ReLU, took "
        "them away; the norm must come last.",
        2,
    )
    alone = [y.flatten(1), y.flatten(2).flatten(0, 1)]  # an image, a channel of an image
    expect(
        not any(close(part.mean(1), torch.zeros(len(part)), 1e-3) for part in alone),
        "Every image was normalized on its own; batch norm takes a channel of the whole batch.",
        2,
    )
    mean, std = y.mean((0, 2, 3)), y.std((0, 2, 3), unbiased=False)
    expect(
        close(mean, torch.zeros_like(mean), 1e-3) and close(std, torch.ones_like(std), 0.02),
        "In training mode the output's channels do not have mean 0 and standard deviation 1: the "
        "batch norm must come last, right before the addition.",
        2,
    )


def _judge_pixels(read):
    """Refuses what does not read all pixels: one place of four, the maximum of four, others."""
    places = torch.stack([read[:, :, i::2, j::2].mean() for i in (0, 1) for j in (0, 1)])
    share = read.mean().item()
    expect(
        not ((places > 0.99).sum() == 1 and (places < 0.01).sum() == 3),
        "Only 25% of the input's pixels reach the output, one place of each 2 × 2 square: what "
        "moves in steps of two without looking around never sees the others.",
        1,
    )
    expect(
        not ((places > 0.99).sum() == 2 and (places < 0.01).sum() == 2),
        "Only 50% of the input's pixels reach the output, two places of each 2 × 2 square: all "
        "four must take part.",
        1,
    )
    spread = places.max() < 0.5 and 0.2 < share < 0.3
    expect(
        not spread,
        "Only one number of each 2 × 2 square reaches the output, now here, now there: the maximum "
        "of four lets one through and drops three.",
        1,
    )
    if share <= 0.99:
        fallback("100 %", f"{share:.0%}", "the share of the input that reaches the output", 1)


QUIZ = [
    Question(
        "Can there be a ResNet-26 made of *basic* blocks, and one of *bottlenecks*, with this stem "
        "and this head?",
        [
            (
                "Yes, both: 24 can be divided by two and by three.",
                "12 basic blocks or 8 bottlenecks, and 2 layers around them.",
            ),
            (
                "Only of basic blocks: bottlenecks are for 50 layers and more.",
                "The paper uses them there; [2, 2, 2, 2] of them makes 3 · 8 + 2 = 26.",
            ),
            (
                "No: the block lists would need halves.",
                "Two layers around the blocks leave 24, and a block has two or three.",
            ),
        ],
        right=0,
    ),
    Question(
        "A state dict loads into your network with `strict=True`. What do you know?",
        [
            (
                "The network computes what the one it came from computes.",
                "v1 and v1.5 have the same names and shapes, and different outputs.",
            ),
            (
                "Nothing: values may be missing, and you would not be told.",
                "With `strict=True` a missing name is an error.",
            ),
            (
                "The names and shapes agree.",
                "And no more: strides, activations and the order of layers are not in the file.",
            ),
        ],
        right=2,
    ),
    Question(
        "You feed ResNet-50 images of 448 × 448 instead of 224 × 224. What happens?",
        [
            (
                "About four times the multiply-adds, the same parameters.",
                "Every map has four times as many pixels; only the linear layer costs what it did.",
            ),
            (
                "About four times the multiply-adds and four times the parameters.",
                "A convolution's kernel does not know the size of the image.",
            ),
            (
                "An error: the linear layer expects 7 × 7 maps.",
                "The mean over all pixels makes 2,048 numbers of any map.",
            ),
        ],
        right=0,
    ),
    Question(
        "Two papers report CIFAR-10 results, one for “ResNet-20”, one for “ResNet-18”. Which "
        "network is most likely the larger one?",
        [
            (
                "ResNet-20: it has two layers more.",
                "Depth is not size: its widest layer has 64 channels.",
            ),
            (
                "They are about equal.",
                "The paper's ResNet-20 has 0.27 million parameters, ResNet-18 some 11 million.",
            ),
            (
                "ResNet-18, about forty times.",
                "It is the ImageNet network with another stem, 64 to 512 channels wide.",
            ),
        ],
        right=2,
    ),
    Question(
        "Your count for ResNet-50 is 4.1 G multiply-adds, a paper says 3.8 G. What is likely?",
        [
            (
                "The paper has the stride on the first 1 × 1 convolution.",
                "Then the first 1 × 1 convolution of three blocks has a quarter of the pixels.",
            ),
            (
                "The paper counts a multiply-add as two operations.",
                "That would make about 8 G.",
            ),
            (
                "The paper leaves out the linear layer.",
                "It has 2 million multiply-adds, far too few.",
            ),
        ],
        right=0,
    ),
]
