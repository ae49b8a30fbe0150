"""Diagrams: what is drawn is what the forward pass did."""

import re
import xml.etree.ElementTree as ET

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from resnet_course import resnet
from resnet_course.teaching import diagram

PICTURE = (64, 56, 56)


def words(drawing):
    return " ".join(text for _, text in drawing.panels)


def texts(drawing):
    """Every text drawn, in the order of the drawing."""
    found = re.findall(r"<svg.*?</svg>", drawing._repr_html_(), re.S)
    return [
        element.text
        for svg in found
        for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    ]


class Block(nn.Module):
    """A learner's block; `add` is what its forward does at the end."""

    def __init__(self, add, inplace=False):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace)
        self.add = add

    def forward(self, x):
        return self.add(self, x)


def test_identity_block_word_for_word():
    assert words(diagram.block(resnet.BasicBlock(64, 64), PICTURE)) == (
        "BasicBlock, input 64 × 56 × 56: two paths. Main path: 3×3 conv, 64; batch norm; ReLU; "
        "3×3 conv, 64; batch norm. Shortcut: identity. Both meet in an addition; ReLU; "
        "output 64 × 56 × 56."
    )


@pytest.mark.parametrize(
    ("module", "sentences"),
    [
        (
            resnet.BasicBlock(64, 128, 2),
            ["3×3 conv, 128, stride 2 gives 128 × 28 × 28", "Shortcut: 1×1 conv, 128, stride 2"],
        ),
        (resnet.BasicBlock(64, 128, 2, resnet.option_a), ["Shortcut: PadShortcut, stride 2"]),
        (resnet.Bottleneck(64, 64), ["1×1 conv, 256 gives 256 × 56 × 56", "output 256 × 56 × 56"]),
    ],
)
def test_blocks_with_other_shortcuts(module, sentences):
    drawing = diagram.block(module, PICTURE)
    assert all(sentence in words(drawing) for sentence in sentences)
    assert "+" in texts(drawing)


def test_plain_block_has_no_addition():
    drawing = diagram.block(resnet.PlainBlock(64, 64), PICTURE)
    assert "two paths" not in words(drawing) and "+" not in texts(drawing)


def test_every_arrow_of_a_block_carries_its_shape():
    drawn = texts(diagram.block(resnet.BasicBlock(64, 128, 2), PICTURE))
    assert drawn.count("64 × 56 × 56") == 2  # into the fork and into the shortcut
    assert drawn.count("128 × 28 × 28") == 5 + 2 + 2  # main path, shortcut, after the addition
    assert drawn[-1] == "output" and "downsample.0" in drawn


def in_place(block, x):
    return block.conv(block.relu(x)) + x


@pytest.mark.parametrize("inplace", [False, True])
def test_in_place_operations_show(inplace):
    """The ReLU that overwrites the input stands before the fork, as in the numbers."""
    drawn = words(diagram.block(Block(in_place, inplace), (4, 8, 8)))
    before = "ReLU; two paths. Main path: 3×3 conv, 4. Shortcut: identity"
    inside = ": two paths. Main path: ReLU; 3×3 conv, 4. Shortcut: identity"
    assert (before if inplace else inside) in drawn


@pytest.mark.parametrize(
    "add",
    [
        lambda block, x: F.relu(block.conv(x) + x),
        lambda block, x: torch.relu(torch.add(block.conv(x), x)),
        lambda block, x: (block.conv(x).add_(x)).relu(),
        lambda block, x: block.relu(x.clone() + block.conv(x)),
        lambda block, x: block.relu(block.conv(x) + (x if x.shape[1] == 4 else 0 * x)),
    ],
)
def test_all_ways_to_write_it_give_one_picture(add):
    drawn = words(diagram.block(Block(add), (4, 8, 8)))
    assert drawn == (
        "Block, input 4 × 8 × 8: two paths. Main path: 3×3 conv, 4. Shortcut: identity. Both meet "
        "in an addition; ReLU; output 4 × 8 × 8."
    )


def test_whole_resnet18():
    drawing = diagram.network(resnet.resnet18(), (3, 224, 224))
    assert len(drawing.panels) == 6 and drawing._repr_html_().count("<svg") == 6
    drawn = texts(drawing)
    assert [t for t in drawn if t in ("stem", "head") or re.fullmatch(r"layer\d", t)] == [
        "stem", "layer1", "layer2", "layer3", "layer4", "head",
    ]  # fmt: skip
    assert drawn.count("+") == 8 and drawn.count("identity") == 5
    assert sum("conv" in t for t in drawn) == 1 + 16 + 3 and "1000" in drawn
    assert drawn.count("BasicBlock") == 8


def test_equal_to_torchvision_s_picture():
    with torch.device("meta"):  # shapes alone, no numbers
        ours, theirs = resnet.resnet50(), torchvision.models.resnet50()
    ours, theirs = (diagram.network(model, (3, 224, 224)) for model in (ours, theirs))
    assert words(ours) == words(theirs)


def test_stages_of_resnet152():
    with torch.device("meta"):
        model = resnet.resnet152()
    drawing = diagram.network(model, (3, 224, 224), detail="stages")
    drawn = texts(drawing)
    assert "layer3.1–35: 35 × Bottleneck" in drawn and "layer3.0: 1 × Bottleneck" in drawn
    assert len(drawing.panels) == 1 and "2048 × 7 × 7" in drawn


def test_small_images_and_plain_networks():
    drawing = diagram.network(resnet.cifar_resnet(20, in_channels=1), (1, 8, 8))
    assert texts(drawing).count("+") == 9
    plain = diagram.network(resnet.cifar_plain(56), (3, 32, 32), detail="stages")
    assert "layer1.0–8: 9 × PlainBlock" in texts(plain)
    assert "shortcut" not in words(plain)


def test_the_module_stays_as_it_was():
    module = resnet.BasicBlock(4, 4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    diagram.block(module, (4, 8, 8))
    assert module.training and not module.conv1._forward_hooks
    assert all(torch.equal(before[n], value) for n, value in module.state_dict().items())


def test_a_figure_with_words_in_the_page_s_colour():
    html = diagram.block(resnet.BasicBlock(4, 4), (4, 8, 8), caption="One <b> block.")._repr_html_()
    assert '<figure class="course-figure"' in html and "One &lt;b&gt; block.</figcaption>" in html
    assert 'role="img" aria-label="BasicBlock' in html and 'fill="currentColor"' in html
    assert "http" not in html.replace("http://www.w3.org/2000/svg", "")
    assert " id=" not in html


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: diagram.block("x", (3, 8, 8)), "needs a torch.nn.Module, got str"),
        (lambda: diagram.block(nn.ReLU(), 3), r"\(channels, height, width\), got 3"),
        (lambda: diagram.block(resnet.BasicBlock(3, 4), (5, 8, 8)), "stopped on an image of shape"),
        (lambda: diagram.block(Block(lambda b, x: None), (4, 8, 8)), "not one tensor"),
        (
            lambda: diagram.block(Block(lambda b, x: torch.cat([x, b.conv(x), x])), (4, 8, 8)),
            "joins 3 paths",
        ),
        (lambda: diagram.network(nn.ReLU(), (3, 8, 8), "all"), 'must be "blocks" or "stages"'),
    ],
)
def test_one_clear_sentence_otherwise(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def crossing(block, x):
    a = block.conv(x)
    b = block.conv(a) + x
    return block.conv(b) + a


def test_crossing_paths():
    with pytest.raises(ValueError, match="paths cross"):
        diagram.block(Block(crossing), (4, 8, 8))
