"""Chapter 09, Why it works: the evidence: checks and quiz."""

import copy
import itertools
import math
import random

import torch
from torch import nn

from resnet_course import resnet
from resnet_course.teaching.check import (
    Mistake,
    as_before,
    call,
    choices,
    copied,
    exercise,
    expect,
    fallback,
    judge,
    number,
    proportion,
    same,
    show,
    tensor,
)
from resnet_course.teaching.quiz import Question


def _unlike(known, wanted):
    """The known mistakes that this case tells apart from the right value and from each other."""
    known = [entry for entry in known if not same(entry[0], wanted, 1e-4)]
    return [
        one
        for one in known
        if not any(one[1] != other[1] and same(one[0], other[0], 1e-4) for other in known)
    ]


def _judge(got, wanted, what, known, tolerance=1e-4):
    """`judge` with the known mistakes that this case tells apart, and one more: a factor."""
    known = _unlike(known, wanted)
    words = proportion(got, wanted, tolerance)
    if words and not any(same(got, value, tolerance) for value, *_ in known):
        known = [*known, (got, words)]
    judge(got, wanted, what, known, 2, tolerance)


def _warm(model, size):
    """Batch norms with statistics and numbers of their own, so that nothing is 0 or 1 by luck."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    model(torch.randn(8, size, 8, 8))
    return model


@exercise(
    "9.1",
    expects="a function of a network and a number",
    right="what you return computes the network without that block, for plain and residual "
    "networks and for blocks that change the shape; it is in evaluation mode, and the network you "
    "were given is as it was, its mode included.",
    times=2,
)
def remove_block(attempt):
    """A function: (network, k) -> a copy whose k-th block, counted from 1, is its shortcut."""
    for build, depth, numbers, mode in (
        (resnet.cifar_resnet, 14, (2, 3, 6, 1), True),
        (resnet.cifar_plain, 14, (2, 5), False),
        (resnet.cifar_resnet, 8, (3, 2), False),
    ):
        model = _warm(build(depth, in_channels=1), 1).train(mode)
        kind = "plain" if build is resnet.cifar_plain else "residual"
        for k in numbers:
            _judge_removal(attempt, model, k, kind)


def _judge_removal(attempt, model, k, kind):
    images, kept = torch.randn(3, 1, 8, 8), copied(model)
    what = f"block {k} of a {kind} network with {len(_blocks(model))} blocks"
    got = _removed(attempt, model, k, what)
    expect(
        kept.state_dict().keys() == model.state_dict().keys(),
        "The block is gone from the network you were given, too: replace it in a deep copy.",
        1,
    )
    as_before(kept, model, 1)
    expect(isinstance(got, nn.Module), f"Expected a network, got {show(got)}.", 1)
    expect(got is not model, "That is the network that you were given, and not a copy of it.", 1)
    conv = _blocks(model)[k - 1].conv1
    more = conv.in_channels * conv.out_channels + 2 * conv.out_channels
    count = _numbers(got) - _numbers(model) + _numbers(_blocks(model)[k - 1])
    expect(
        count != more or conv.stride == (1, 1),
        f"In place of {what} stands a projection with weights of its own; a shortcut of option A "
        "has none.",
        2,
    )
    norms = [module for module in got.modules() if isinstance(module, nn.BatchNorm2d)]
    expect(
        not got.training and not any(norm.training for norm in norms),
        "The copy came back in training mode: its batch norms would use the batch's statistics.",
        1,
    )
    judge_me = copy.deepcopy(kept).eval()
    with torch.no_grad():
        try:
            out = got(images)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:80]
            raise Mistake(
                f"Without {what} the shapes no longer fit ({said}): a block that changes the shape "
                "leaves its shortcut of option A, with the block's channels in, channels out and "
                "stride.",
                2,
            ) from error
        out = tensor(out, (3, 10), "the logits")
        wanted = _run(judge_me, images, {k: "off"})
        if not same(out, wanted, 1e-4):
            known = _unlike(_known_removals(judge_me, images, k), wanted)
            judge(out, wanted, f"the logits without {what}", known, 2, 1e-4)


def _removed(attempt, model, k, what):
    expect(callable(attempt), f"Expected a function, got {show(attempt)}.")
    try:
        got = attempt(model, k)
    except (IndexError, AttributeError) as error:
        if isinstance(error, IndexError):
            why = "it asks for a place that is not there; the stages have `len(...)` blocks each"
        elif "downsample" in str(error):
            why = "plain blocks have no shortcut; make one with `resnet.option_a`"
        else:
            raise
        raise Mistake(f"For {what} the code stopped: {why}.", 1) from error
    expect(got is not None, "The function returned None: does it end with `return`?")
    return got


def _numbers(module):
    return sum(p.numel() for p in module.parameters())


def _blocks(model):
    return [block for layers in (model.layer1, model.layer2, model.layer3) for block in layers]


def _known_removals(model, images, k):
    count = len(_blocks(model))
    per = count // 3

    def without(*gone):
        return _run(model, images, dict.fromkeys(gone, "off"))

    def changed(how):
        return _run(model, images, {k: how})

    stages = [0, per, 2 * per]
    known = [
        (without(), "nothing was removed"),
        (without(k - 1), "the block in front of it was removed"),
        (without(*range(1, k + 1)), "those in front of it are gone, too"),
        (without(*range(k, count + 1)), "those behind it are gone, too"),
        *(
            (without(j), "another block than this one was removed")
            for j in range(1, count + 1)
            if j not in (k - 1, k, k + 1, count + 1 - k)
        ),
        (without(count + 1 - k), "it was counted from the output; count from the input"),
        (changed("zero"), "the block gives zeros; its shortcut must stay"),
        (changed("first conv"), "only the block's second convolution is gone"),
        (changed("second conv"), "only the block's first convolution is gone"),
        (changed("shift"), "the block's last batch norm still adds its β"),
        (changed("norm"), "the block's last batch norm is still there"),
        (changed("stride 1"), "the shortcut does not have the stride of the block"),
        (changed("stride 2"), "the shortcut has a stride of 2, and the block has not"),
    ]
    if k < count:
        behind = "the block behind it was removed; the first block has the number 1"
        known += [(without(k + 1), behind), (without(k, k + 1), "the one behind it is gone, too")]
    for place in (k, k - 1):
        if 0 < place <= per:
            words = "a block of every stage is gone: the number counts on from stage to stage"
            known.append((without(*(start + place for start in stages)), words))
    return [(value, words, 2) for value, words in known]


def _run(model, images, changes):
    """The forward pass in evaluation mode, block by block, with some of them changed."""
    x = model.relu(model.bn1(model.conv1(images)))
    for k, block in enumerate(_blocks(model), 1):
        conv, how = block.conv1, changes.get(k, "")
        shape, stride = (conv.in_channels, conv.out_channels), conv.stride[0]
        past = resnet.option_a(*shape, stride)(x)
        residual = hasattr(block, "downsample")

        def end(out, block=block, past=past, residual=residual):
            return block.relu(out + past) if residual else block.relu(out)

        if how == "zero":
            x = torch.zeros_like(past)
        elif how == "first conv":
            x = end(block.relu(block.bn1(block.conv1(x))))
        elif how == "second conv":
            x = end(block.bn2(block.conv2(block.relu(past))))
        elif how == "shift":
            x = end(block.bn2(torch.zeros_like(past)))
        elif how == "norm":
            x = block.bn2(past)
        elif how.startswith("stride"):
            x = resnet.option_a(*shape, int(how[-1]))(x)
        else:
            x = past if how == "off" else block(x)
    return model.fc(x.mean((2, 3)))


@exercise(
    "9.2",
    expects="a function of three whole numbers",
    right="your counts agree with going through all paths one by one, for up to 14 blocks.",
)
def count_paths(attempt):
    """A function: (blocks, through, removed) -> paths left that go through so many blocks."""
    first = random.choice((13, 14)), 3, 5  # here all known mistakes differ
    cases = [first, (8, 2, 2), (7, 0, 2), (5, 4, 3), (10, 5, 5), (6, 6, 0), (3, 2, 0), (4, 0, 4)]
    for blocks, through, removed in cases:
        gone = set(random.sample(range(blocks), removed))
        wanted = sum(
            bin(path).count("1") == through and not any(path >> block & 1 for block in gone)
            for path in range(2**blocks)
        )
        what = f"the paths through {through} blocks, of {blocks} with {removed} removed"
        what = what if (blocks, through, removed) != first else "the paths of that length"
        try:
            got = number(call(attempt, blocks, through, removed), "the number of paths")
        except ValueError as error:
            why = "so many blocks are not left, and the number of paths is 0"
            if through <= blocks - removed:
                why = "a number of the choice is negative; the choice is of `through` blocks"
            raise Mistake(f"For {what} the code stopped ({error}): {why}.", 2) from error
        expect(
            through or got,
            f"For {what} expected 1, got 0: the path around every block is there always.",
            1,
        )
        expect(
            wanted or got != 1,
            f"For {what} expected 0, got 1: so many blocks are not left.",
            2,
        )
        if got != wanted:
            known = _unlike(_known_counts(blocks, through, removed, wanted), wanted)
            judge(got, wanted, what, known, 2, 1e-9)
            fallback(wanted, got, what, 2)


def _known_counts(blocks, through, removed, wanted):
    """(value, words, hint); `wanted` is a count, which some mistakes spoil."""
    whole, left = math.comb(blocks, through), blocks - removed
    below = sum(math.comb(left, k) for k in range(through + 1))
    above = sum(math.comb(left, k) for k in range(through, left + 1))
    shorter = "the path's length was shortened; it is the blocks to choose from that get fewer"
    known = [
        (whole, "that is with the removed blocks still in"),
        (2**left, "those are all paths that are left, of any length"),
        (2**blocks, "those are all paths of the whole network"),
        (whole - math.comb(removed, through), "a path is cut by *one* removed block; it need not "
         "lie in removed ones only"),
        (whole - removed, "each removed block cuts many paths, not one"),
        (math.perm(left, through), "the order of the blocks in a path is fixed, not chosen"),
        (math.comb(left, max(through - removed, 0)), shorter),
        (math.comb(blocks, max(through - removed, 0)), shorter),
        (math.comb(blocks, min(through + removed, blocks)), "the removed blocks were added to the "
         "path's length; it is the blocks that get fewer"),
        (math.comb(max(left - 1, 0), through), "one block too many was taken away"),
        (math.comb(left + 1, through), "one block too few was taken away"),
        (math.comb(blocks - 1, through), "one block was taken away, however many are removed"),
        (whole * left / blocks, "paths do not thin out in proportion"),
        (round(whole * left / blocks), "paths do not thin out in proportion"),
        (whole / 2**removed, "half for each removed block is right for *all* lengths together"),
        (whole // 2**removed, "half for each removed block is right for *all* lengths together"),
        (left**through, "a path goes through a block once at most"),
        (math.comb(max(left + through - 1, 0), through), "a path goes through a block once at "
         "most"),
        (left * through, "those are blocks times length; a path is a *choice* of blocks"),
        (below, "shorter paths were counted, too"),
        (above, "longer paths were counted, too"),
        (math.comb(removed, through), "those lie in the *removed* blocks; choose among the others"),
        (wanted * 2**removed, "a removed block leaves no choice, not two"),
        (math.comb(through, left), "the two numbers of the choice have changed places"),
        (math.comb(max(blocks - through, 0), removed), "that chooses the removed blocks among "
         "those not gone through; they are given, and the path is chosen"),
        (wanted / whole if whole else 0, "that is a share; their number is asked for"),
        (wanted / 2**blocks, "that is a share; their number is asked for"),
        (whole - wanted, "those are the paths that are *lost*"),
        (math.comb(left, through + 1), "those go through one block more"),
        (math.comb(left, max(through - 1, 0)), "those go through one block less"),
        (2 * wanted, "that is twice as many"),
        (math.comb(max(27 - removed, 0), through), "that is for 27 blocks, whatever `blocks` says"),
        (math.comb(max(9 - removed, 0), through), "that is for 9 blocks, whatever `blocks` says"),
    ]  # fmt: skip
    return [(value, words, 2) for value, words in known]


@exercise(
    "9.3",
    expects="a function of a list of numbers",
    right="your lists agree with multiplying out, for 1 to 6 factors, equal ones, negative ones "
    "and zeros among them.",
)
def by_length(attempt):
    """A function: factors f of blocks x + f x -> what paths of each length carry, a list."""
    sizes = random.sample((0.4, 0.7, 1.3, 1.6, 1.9), 4)
    while abs(sizes[0] - sizes[1] + sizes[2] - sizes[3]) < 0.2:  # a sum of 0 hides mistakes
        random.shuffle(sizes)
    equal = random.choice((0.3, 0.6, -0.7))
    for factors in (
        [sizes[0], -sizes[1], sizes[2], -sizes[3]],
        [random.uniform(0.3, 2)],
        [sizes[0], equal, sizes[1], equal, -sizes[2]],
        [1.0, 0.0, -1.0, 4.0],
        [random.uniform(-2, 2) for _ in range(6)],
    ):
        got = _lengths(call(attempt, list(factors), hint=1), len(factors))
        wanted = torch.tensor(_multiplied_out(factors), dtype=torch.double)
        if same(got, wanted, 1e-5):
            continue
        n = len(factors)
        kind = {
            1: "one block",
            4: "four blocks",
            5: "five blocks, two of them equal",
            6: "six blocks",
        }[n]
        known = _unlike(_known_lengths(wanted, factors), wanted)
        why = [entry for entry in known if same(got, entry[0], 1e-5)]
        expect(
            why or len(got) == n + 1,
            f"For {kind} there are {n + 1} lengths of paths, 0 among them; got {len(got)}.",
            1,
        )
        _judge(got, wanted, f"the list for {kind}", known, 1e-5)


def _lengths(got, n):
    got = got.tolist() if hasattr(got, "tolist") else got
    single = isinstance(got, int | float)
    expect(not single, "That is one number: keep one for each length of paths, in a list.", 1)
    good = isinstance(got, list | tuple)
    expect(good, f"Expected a list of numbers, got {show(got)}.", 1)
    deep = any(isinstance(part, list | tuple) for part in got)
    expect(not deep, "There are lists inside the list: at each place belongs the *sum* over the "
           "paths of that length.", 2)  # fmt: skip
    values = [number(value, "each length") for value in got]
    return torch.tensor(values, dtype=torch.double)


def _multiplied_out(factors):
    parts = [1.0]
    for factor in factors:
        parts = [
            (parts[k] if k < len(parts) else 0.0) + (factor * parts[k - 1] if k else 0.0)
            for k in range(len(parts) + 1)
        ]
    return parts


def _known_lengths(wanted, factors):
    """(list as a tensor, words, hint) of known mistakes."""
    n, wanted = len(factors), wanted.tolist()
    lengths, mean = range(n + 1), sum(factors) / len(factors)
    counts = [math.comb(n, k) for k in lengths]
    paths = [[math.prod(path) for path in itertools.combinations(factors, k)] for k in lengths]

    def again(k):
        return itertools.combinations_with_replacement(factors, k)

    def running(values, start, step):
        return list(itertools.accumulate(values, step, initial=start))

    whole = [1]
    for f in factors:
        whole = [int(a + f * b) for a, b in zip([*whole, 0], [0, *whole], strict=True)]
    neighbours = [[math.prod(factors[i : i + k]) for i in range(n - k + 1)] for k in lengths[1:]]
    one_path = "only one path of each length is there; there are many"
    distinct = "what is equal was counted once; every path counts, also equal ones"
    sums = [sum(map(sum, itertools.combinations(factors, k))) for k in lengths]
    known = [
        (wanted[1:], "length 0, the way around every block, is missing", 1),
        (wanted[::-1], "it begins with the longest path; begin with length 0", 1),
        (wanted[:-1], "the longest path, through all blocks, is missing", 1),
        (counts, "those are the *numbers* of paths; a path carries the product of its factors", 2),
        ([w / c for w, c in zip(wanted, counts, strict=True)], "that is the *mean* of the paths "
         "of a length; take their sum", 2),
        ([c * mean**k for k, c in enumerate(counts)], "every factor was taken for the mean one", 2),
        (running(factors, 1.0, lambda a, b: a * b), one_path, 2),
        (running(factors[::-1], 1.0, lambda a, b: a * b), one_path, 2),
        (running(factors, 1.0, lambda a, b: a + b), "factors were added; along a path they are "
         "multiplied", 2),
        (sums, "factors were added; along a path they are multiplied", 2),
        ([1.0, *sums[1:]], "factors were added; along a path they are multiplied", 2),
        ([1.0, *map(sum, neighbours)], "only paths through neighbouring blocks are there", 2),
        ([1.0] + [sum(f**k for f in factors) for k in lengths[1:]], "paths of length k go through "
         "k *different* blocks", 2),
        ([sum(map(math.prod, again(k))) for k in lengths], "a path goes through a block once at "
         "most; here a block is used again", 2),
        ([w * math.factorial(k) for k, w in enumerate(wanted)], "each path was counted in every "
         "order of its blocks; it has one", 2),
        ([sum(math.prod(1 + f for f in path) for path in itertools.combinations(factors, k))
          for k in lengths], "1 + f was multiplied; the way *through* a block carries f", 2),
        ([sum(wanted)], "that is all paths together; keep one number for each length", 1),
        (running(wanted[1:], wanted[0], lambda a, b: a + b), "the shorter paths were added in as "
         "well", 2),
        ([abs(w) for w in wanted], "signs were lost: paths can cancel each other", 2),
        (_multiplied_out([abs(f) for f in factors]), "signs were lost: paths can cancel each "
         "other", 2),
        (_multiplied_out([-f for f in factors]), "each factor has the other sign", 2),
        (whole, "the numbers were cut to whole ones", 2),
        ([0.0] * (n + 1), "they are all 0; the empty network has one path of length 0, `[1]`", 1),
        ([*_multiplied_out(factors[:-1]), 0.0], "the last block is missing", 2),
        (_multiplied_out(factors[:-1]), "the last block is missing", 2),
        ([*_multiplied_out(factors[1:]), 0.0], "the first block is missing", 2),
        (_multiplied_out(factors[1:]), "the first block is missing", 2),
        (_multiplied_out(sorted(set(factors))), distinct, 2),
        ([sum(set(values)) for values in paths], distinct, 2),
        ([sum(math.prod(path) for path in set(itertools.combinations(factors, k))) for k in
          lengths], distinct, 2),
        ([sum(factors) ** k for k in lengths], "those are powers of the sum of all factors: they "
         "go through blocks again, and in every order", 2),
        ([1, 5, 6], "that is the list of the example, whatever the factors are", 1),
        ([1, sum(factors), math.prod(factors)], "only lengths 0, 1 and all are there; those "
         "between have their places, too", 2),
        (sorted(wanted), "the numbers are right, and were put in another order", 2),
        (_multiplied_out([f * f for f in factors]), "the factors were squared", 2),
        ([round(w) for w in wanted], "the numbers were rounded", 2),
        ([round(w, 1) for w in wanted], "the numbers were rounded", 2),
        ([round(w, 2) for w in wanted], "the numbers were rounded", 2),
        (factors, "those are the factors as they came", 2),
        ([1.0, *factors], "those are the factors as they came, behind a 1", 2),
    ]  # fmt: skip
    if abs(sum(wanted)) > 1e-3:
        known.append(([w / sum(wanted) for w in wanted], "each was divided by the sum of all; take "
                      "them as they are", 2))  # fmt: skip
    return [(torch.tensor(v, dtype=torch.double), words, hint) for v, words, hint in known]


@exercise(
    "9.4",
    expects="a function of a weight and a direction",
    right="each filter of your direction has the length of the weight's filter and the direction "
    "it had, for convolutions and for a linear layer.",
)
def normalize_filters(attempt):
    """A function: (weight, direction) -> the direction, filter by filter as long as the weight."""
    filters, channels, height, width = random.sample((2, 3, 4, 5, 6, 7), 4)
    filters = max(filters, 3)
    for shape, kind in (
        ((filters, channels, height, width), "a convolution"),
        ((filters, channels, 1, 1), "a convolution with a kernel of 1 x 1"),
        ((filters, channels), "a linear layer"),
        ((1, channels, 3, 3), "a convolution with one filter"),
    ):
        ratio = torch.rand(shape[0], *[1] * (len(shape) - 1)) * 0.5 + 0.3
        ratio[::2] = 1 / ratio[::2]  # shorter ones and longer ones
        direction = torch.randn(shape) * (torch.rand(ratio.shape) * 3 + 0.5)
        weight = torch.randn(shape)
        weight = weight * ratio * _length(direction) / _length(weight)
        got = _normalized(attempt, weight, direction, kind)
        wanted = direction * _length(weight) / _length(direction)
        if not same(got, wanted, 1e-4):
            known = _known_filters(weight, direction)
            if not any(same(got, value, 1e-4) for value, *_ in known):
                _judge_filters(got, wanted, kind)
            _judge(got, wanted, f"the direction for {kind}", known)


def _normalized(attempt, weight, direction, kind):
    try:
        got = call(attempt, weight, direction)
    except (IndexError, RuntimeError) as error:
        if isinstance(error, NotImplementedError):
            raise
        why = "the lengths need as many axes as the weight, all of size 1 but the first"
        if kind == "a linear layer":
            why = "its weight has two axes, and others have four: take all axes but the first"
        elif "matrix_norm" in str(error):
            why = "`norm` takes one axis or two; make each filter flat, `weight.flatten(1)`"
        elif "must match the size" not in str(error):
            raise
        raise Mistake(f"For {kind} the code stopped, since axes do not fit: {why}.", 2) from error
    shape = tuple(got.shape) if isinstance(got, torch.Tensor) else None
    if shape == (len(weight),) and weight.dim() > 1:
        raise Mistake("That is one number for each filter; the direction itself is asked for, in "
                      "the shape it had.", 2)  # fmt: skip
    if shape == (weight.numel(),):
        raise Mistake("The direction came back flat; it has to have the shape it had.", 2)
    if shape is not None and len(shape) > weight.dim():
        raise Mistake(
            f"For {kind} the result has more axes than the weight: the lengths have to have as "
            "many as the weight, whatever their number.",
            2,
        )
    return tensor(got, weight.shape, f"the direction for {kind}")


def _judge_filters(got, wanted, kind):
    """What no known mistake gives: lengths or directions may be right, filter by filter."""
    if proportion(got, wanted):
        return
    wanted = wanted.double()
    factors = (got * wanted).flatten(1).sum(1) / wanted.flatten(1).square().sum(1)
    straight = same(got, wanted * factors.view(_length(wanted).shape), 1e-4)
    expect(
        not straight or factors.abs().min() < 0.01,
        f"For {kind} each filter points where it should, or the opposite way, but its length is "
        "not that of the weight's filter.",
        2,
    )
    expect(
        not same(_length(got), _length(wanted), 1e-4),
        f"For {kind} the lengths are right, but filters no longer point where they did.",
        2,
    )


def _length(weight):
    return weight.flatten(1).norm(dim=1).view(-1, *[1] * (weight.dim() - 1))


def _known_filters(weight, direction):
    weight, direction = weight.double(), direction.double()
    own, drawn = _length(weight), _length(direction)
    rows = tuple(range(1, weight.dim()))
    inputs = (0, *range(2, weight.dim()))
    ratio = own / drawn

    def along(dims, size=lambda w, d: w.square().sum(d, True).sqrt()):
        return direction * size(weight, dims) / size(direction, dims)

    def of(other):
        return other * own / _length(other)

    last = torch.cat([direction[:-1] * ratio[:-1], direction[-1:]])
    half = "only filters that were too short were changed; the others become shorter"
    known = [
        (direction, "the direction came back as it was"),
        (direction / drawn, "every filter has length 1, not that of the weight's filter"),
        (direction * own, "it was multiplied by the weight's length, but not divided by its own"),
        (along(tuple(range(weight.dim()))), "the whole tensor has the right length; each *filter* "
         "must have its own"),
        (direction / ratio, "the ratio is upside down"),
        (along(inputs), "the lengths were taken for each *input* channel; a filter is `weight[i]`"),
        (along((0,)), "the lengths were taken *over* the filters; a filter is `weight[i]`"),
        (along((1,)), "the lengths were taken over axis 1 alone; a filter has all axes but the "
         "first"),
        (along((-2, -1)), "each kernel has its own length; a filter is all of `weight[i]`"),
        (along((-1,)), "the lengths were taken along the last axis alone; a filter is all of "
         "`weight[i]`"),
        (direction * ratio**2, "the squares were compared; take the root"),
        (direction * ratio.sqrt(), "the root of the ratio was taken; the ratio itself is right"),
        (direction * (own - drawn), "the lengths were subtracted; their ratio is needed"),
        (along(rows, lambda w, d: w.abs().sum(d, True)), "the sums of absolute values were made "
         "equal; the length is the Euclidean norm"),
        (along(rows, lambda w, d: w.abs().amax(d, True)), "the largest entries were made equal, "
         "not the lengths"),
        (along(rows, lambda w, d: w.std(d, keepdim=True)), "the standard deviations were made "
         "equal, from which the mean is subtracted; the length has it in"),
        (along(rows, lambda w, d: w.std(d, unbiased=False, keepdim=True)), "the standard "
         "deviations were made equal, from which the mean is subtracted; the length has it in"),
        (direction.sign() * weight.abs(), "every single number was rescaled, so the direction is "
         "another one"),
        (weight / ratio, "that is the *weight*, rescaled; the direction is the other one"),
        (weight, "that is the weight itself"),
        (weight + direction * ratio, "the weight was added; the direction alone is asked for"),
        (of(direction.abs()), "signs were lost, so the direction is another one"),
        (of(direction - direction.mean()), "the mean was taken off the direction, so it points "
         "elsewhere"),
        (of(direction - direction.mean(rows, True)), "the mean was taken off the direction, so it "
         "points elsewhere"),
        (weight * (weight * direction).sum(rows, True) / own**2, "that is the part of the "
         "direction along the weight"),
        (direction * own.mean() / drawn, "all filters have one length, the weight's mean one"),
        (direction * own / drawn.mean(), "it was divided by the mean length of all filters, not by "
         "each one's own"),
        (direction * ratio.clamp(min=1), half),
        (direction * ratio.clamp(max=1), "only filters that were too long were changed; the others "
         "become longer"),
        (direction * own / (drawn + 1), "1 was added to the direction's length; the lengths no "
         "longer agree"),
        (direction * ratio[0], "all filters have the ratio of the first one"),
        (last, "the last filter is as it was"),
    ]  # fmt: skip
    return [(value, words, 2) for value, words in known]


@exercise(
    "9.5",
    expects="a function of x, branch, shortcut, survival and training",
    right="in training F is there in the right share of the draws, the shortcut always, also where "
    "it changes the shape, and in evaluation the result is the mean of the training results.",
    times=2,
)
def mend_depth(attempt):
    """A function: (x, branch, shortcut, survival, training) -> output of the block, before ReLU."""
    for survival, out in (
        (random.uniform(0.8, 0.82), 4),
        (random.uniform(0.26, 0.29), 3),
        (1.0, 4),
    ):
        x, weight = torch.randn(3, 4), torch.randn(4, out)

        def branch(value, weight=weight):
            return (value[:, :4] if value.shape[1] == 4 else value @ weight.T) @ weight + 1

        def shortcut(value, out=out):
            return 3 * value[:, :out]

        _judge_depth(attempt, x, branch, shortcut, survival)
    x = torch.randn(3, 4)
    kept = x.clone()
    for training in (False, True):
        for _ in range(10):
            attempt(x, lambda value: value @ weight.T, lambda value: value, 0.5, training)
    expect(
        torch.equal(x, kept),
        "An identity as shortcut gives x itself, and the function changed that in place: whoever "
        "called it has another x now.",
        2,
    )


DRAWS = 1500


def _judge_depth(attempt, x, branch, shortcut, p):
    f, s = branch(x), shortcut(x)
    evaluation = _ask(attempt, x, branch, shortcut, p, False, 40)
    training = _ask(attempt, x, branch, shortcut, p, True, DRAWS)
    alike = _are(evaluation, evaluation[0]).all()
    if not alike:
        swapped = _are(training, s + p * f).all()
        expect(not swapped, "The two modes have changed places: in *training* it is drawn, in "
               "evaluation weighted.", 1)  # fmt: skip
        expect(False, "In evaluation the output changes from call to call: nothing may be drawn "
               "there.", 1)  # fmt: skip
    inverted = (_are(training, s) | _are(training, s + f / p)).all()
    expect(
        p == 1 or not inverted or not same(evaluation[0], s + f, 1e-4) or _are(training, s).all(),
        "The averages are equal, since F is divided by `survival` in training; here F is as it is "
        "in training, and the weight belongs to evaluation.",
        2,
    )
    if not same(evaluation[0], s + p * f, 1e-4):
        known = _known_evaluations(x, f, s, p, branch, shortcut)
        _judge(evaluation[0], s + p * f, "the output in evaluation", known)
    _judge_training(training, x, f, s, p, branch)


def _ask(attempt, x, branch, shortcut, survival, training, draws):
    """So many results, one after the other, (draws, 3, channels)."""
    mode = "training" if training else "evaluation"
    shape, results = shortcut(x).shape, []
    for _ in range(draws):
        got = attempt(x.clone(), branch, shortcut, survival, training)
        expect(got is not None, "The function returned None: does it end with `return`?", None)
        if isinstance(got, torch.Tensor) and got.shape == x.shape != shape:
            raise Mistake(
                f"In {mode} `x` itself came back, or its shape: a block that changes the shape has "
                "a `shortcut(x)` for that.",
                1,
            )
        results.append(tensor(got, shape, f"the output in {mode}"))
    return torch.stack(results)


def _are(results, wanted):
    """Which of the results are this one."""
    wanted = wanted.double()
    return ((results - wanted).abs() <= 1e-4 * max(1, wanted.abs().max())).flatten(1).all(1)


def _known_evaluations(x, f, s, p, branch, shortcut):
    known = [
        (s + f, "F came in full: it was there only in a share of the training steps"),
        (s + (1 - p) * f, "F was weighted with the share of steps in which it was *gone*"),
        (s, "F is missing: in evaluation every block works, weighted"),
        (p * (s + f), "the shortcut was weighted too; it was never dropped"),
        (p * s + f, "the shortcut was weighted, and it is F that was sometimes gone"),
        ((1 - p) * s + p * f, "the shortcut was weighted too; it was never dropped"),
        (f * p, "the shortcut is missing"),
        (f, "the shortcut is missing"),
        (s + f / p, "F was divided by the share instead of multiplied"),
        (s + p**0.5 * f, "F was weighted with the root of the share; the average has the share"),
        (s + p * p * f, "F was weighted twice"),
        (s + f / 2, "F was weighted with one half, whatever `survival` says"),
        (s - p * f, "F was subtracted"),
        (torch.zeros_like(s), "it is 0 everywhere"),
        (s + branch(p * x), "the *input* of F was weighted; its output has to be"),
        (s + p * branch(s), "F got `shortcut(x)`; it gets `x`"),
        ((s + p * f).relu(), "a ReLU is in it; the result comes before the last ReLU"),
    ]
    if x.shape == s.shape:
        known += [
            (x + p * f, "x itself was added instead of `shortcut(x)`"),
            (x + f, "x itself was added instead of `shortcut(x)`, and F came in full"),
        ]
    return [(value, words, 2) for value, words in known]


def _judge_training(results, x, f, s, p, branch):
    there, gone = _are(results, s + f), _are(results, s)
    odd = results[~(there | gone)]
    if len(odd):
        known = [
            (s + p * f, "F is weighted in training; there it is in full or gone"),
            (s + f / p, "F is divided by the share in training *and* weighted afterwards"),
            ((s + f).relu(), "a ReLU is in it; the result comes before the last ReLU"),
            (s.relu(), "a ReLU is in it; the result comes before the last ReLU"),
            (torch.zeros_like(s), "the shortcut was dropped together with F"),
            (s - f, "F was subtracted"),
            (s + branch(s), "F got `shortcut(x)`; it gets `x`"),
            (f, "the shortcut is missing in some steps; it is always there"),
        ]
        if x.shape == s.shape:
            known += [
                (x, "x itself came back instead of `shortcut(x)`"),
                (x + f, "x itself was added instead of `shortcut(x)`"),
            ]
        known = [(value, words) for value, words, *_ in _unlike(known, s + f)]
        for value, words in known:
            expect(not _are(odd, value).any(), f"In training: {words}.", 1)
        places = (odd - s.double()).abs() < 1e-4
        places = places | ((odd - (s + f).double()).abs() < 1e-4)
        images = (_rows(odd, s) | _rows(odd, s + f)).all()
        expect(not images, "In training: images of one batch were treated differently; the block "
               "is there or gone for all.", 1)  # fmt: skip
        expect(not places.all(), "In training: each number was drawn by itself; the block is there "
               "or gone as a whole.", 1)  # fmt: skip
        some = "In training some result is neither `shortcut(x)` nor `shortcut(x)` plus F."
        raise Mistake(some, 1, named=False)
    share, spread = there.float().mean().item(), math.sqrt(p * (1 - p) / DRAWS)
    if abs(share - p) <= 5 * spread + 1e-9:
        return
    expect(
        0 < share < 1,
        "In training F was there always or never: it has to be drawn, anew at every call.",
        1,
    )
    below = 0.5 * (1 + math.erf(p / math.sqrt(2)))
    shares = [
        (1 - p, "F is *gone* with the probability that it should be *there*"),
        (0.5, "F is there in half of the draws, whatever `survival` says"),
        (below, "`torch.randn` was asked, a normal number; `torch.rand` is even between 0 and 1"),
        (p * p, "F is drawn twice, and there only if both allow it"),
    ]
    nearest, words = min(shares, key=lambda entry: abs(entry[0] - share))
    expect(abs(nearest - share) > 0.05, f"In training: {words}.", 1)
    fallback(f"{p:.2f}", f"{share:.2f}", "the share of training steps with F", 1)


def _rows(results, wanted):
    """Which rows (images) of the results are those of this one."""
    return ((results - wanted.double()).abs() <= 1e-4 * max(1, wanted.abs().max())).all(2)


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
    words = choices(attempt, list(STANDING), WORDS, "claim")
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
                "Its loss rises slowly at first, in a typical random direction.",
                "Near the solution: that is what such a slice shows, and no more.",
            ),
        ],
        right=2,
    ),
    Question(
        "Why does a landscape in evaluation mode reach losses of hundreds?",
        [
            (
                "The running statistics belong to the unmoved weights.",
                "Each layer's output leaves the range that its batch norm expects, so nothing is "
                "normalized any more, and the next layer multiplies the error.",
            ),
            (
                "Evaluation mode switches batch norm off, in all layers.",
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
