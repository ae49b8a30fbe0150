"""Plain and residual networks, as in He et al. 2015 (https://arxiv.org/abs/1512.03385).

Read from top to bottom: convolutions, shortcuts, blocks, the ImageNet network, the CIFAR network.
Shapes are (N, C, H, W): images in the batch, channels, height, width. Attribute names are
torchvision's, so that the state dict of its five ResNets loads here with `strict=True`.
"""

import torch
from torch import nn
from torch.nn import functional as F


def conv3x3(in_channels, out_channels, stride=1):
    """(N, C_in, H, W) -> (N, C_out, H/s, W/s). No bias: the batch norm that follows has its own."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


def conv1x1(in_channels, out_channels, stride=1):
    """(N, C_in, H, W) -> (N, C_out, H/s, W/s): one linear map, applied at every pixel."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)


# Shortcuts: how the input reaches the addition (paper, section 3.3 and section 4.1, options A-C)


class PadShortcut(nn.Module):
    """Every `stride`-th pixel, with channels of zeros added: a shortcut without parameters.

    (N, C_in, H, W) -> (N, C_out, H/s, W/s), half of the new channels before the old ones and
    half after. The paper does not say where the zeros go. Facebook's re-implementation for Torch
    (fb.resnet.torch) puts all of them after; half and half is the layout of the CIFAR weights most
    widely published for PyTorch.
    """

    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x):
        # Every second pixel, as x[:, :, ::2, ::2]; but this gradient keeps its memory layout.
        x = F.avg_pool2d(x, 1, self.stride)
        return F.pad(x, (0, 0, 0, 0, self.before, self.after))


def projection(in_channels, out_channels, stride):
    """1x1 convolution, then batch norm, learned. (N, C_in, H, W) -> (N, C_out, H/s, W/s)"""
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


def option_a(in_channels, out_channels, stride):
    """Identity where the shapes agree, else zero padding. The paper's choice on CIFAR-10."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return PadShortcut(in_channels, out_channels, stride)


def option_b(in_channels, out_channels, stride):
    """Identity where the shapes agree, else a projection. torchvision's choice."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return projection(in_channels, out_channels, stride)


def option_c(in_channels, out_channels, stride):
    """A projection in every block, also where the shapes agree."""
    return projection(in_channels, out_channels, stride)


SHORTCUTS = {"A": option_a, "B": option_b, "C": option_c}


def shortcut_option(name):
    """The function for option "A", "B" or "C". Raises ValueError for any other name."""
    if name not in SHORTCUTS:
        raise ValueError(f"shortcut {name!r} is unknown: choose one of 'A', 'B', 'C'")
    return SHORTCUTS[name]


# Blocks: (N, C_in, H, W) -> (N, channels * expansion, H/s, W/s)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions, and no shortcut. `shortcut` is not used: all blocks are built alike."""

    expansion = 1

    def __init__(self, in_channels, channels, stride=1, shortcut=None):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and the input added to their result (paper, figure 5, left)."""

    expansion = 1

    def __init__(self, in_channels, channels, stride=1, shortcut=option_b):
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv2 = conv3x3(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut(in_channels, channels, stride)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1 down to `channels`, 3x3, 1x1 up to 4 times `channels` (paper, figure 5, right).

    The stride sits on the 3x3 convolution, as in torchvision ("v1.5"); the paper has it on the
    first 1x1, which skips three pixels of four.
    """

    expansion = 4

    def __init__(self, in_channels, channels, stride=1, shortcut=option_b):
        super().__init__()
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, channels * self.expansion)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = shortcut(in_channels, channels * self.expansion, stride)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x))


# Networks


def stage(block, in_channels, channels, num_blocks, stride, shortcut):
    """`num_blocks` blocks in a row; the first one may halve the resolution (`stride=2`)."""
    blocks = [block(in_channels, channels, stride, shortcut)]
    for _ in range(num_blocks - 1):
        blocks.append(block(channels * block.expansion, channels, 1, shortcut))
    return nn.Sequential(*blocks)


def he_init_(model):
    """He initialization in place: every convolution weight has variance 2 / fan_out.

    The paper that derived it (https://arxiv.org/abs/1502.01852) mostly uses fan_in; torchvision
    uses fan_out, and so do we. Linear layers keep PyTorch's default.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def leak_(model, slope):
    """Every ReLU becomes max(x, slope * x), in place; the weights stay. A slope of 0 is ReLU."""
    if not 0 <= slope <= 1:
        raise ValueError(f"slope must be between 0 (ReLU) and 1 (the identity), got {slope}")
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.LeakyReLU):
                setattr(module, name, nn.LeakyReLU(slope) if slope else nn.ReLU())


class ResNet(nn.Module):
    """The ImageNet networks of table 1: (N, 3, H, W) -> logits (N, num_classes).

    `num_blocks` lists the blocks of the four stages, [2, 2, 2, 2] for ResNet-18. Any input of at
    least 32 x 32 pixels works; the paper's tables are for 224 x 224.
    """

    def __init__(self, block, num_blocks, num_classes=1000, shortcut=option_b):
        super().__init__()
        e = block.expansion
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = stage(block, 64, 64, num_blocks[0], 1, shortcut)
        self.layer2 = stage(block, 64 * e, 128, num_blocks[1], 2, shortcut)
        self.layer3 = stage(block, 128 * e, 256, num_blocks[2], 2, shortcut)
        self.layer4 = stage(block, 256 * e, 512, num_blocks[3], 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * e, num_classes)
        he_init_(self)

    def forward(self, x):  # comments: shapes at 224 x 224, with basic blocks
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 64, 112, 112)
        x = self.maxpool(x)  # (N, 64, 56, 56)
        x = self.layer1(x)  # (N, 64, 56, 56)
        x = self.layer2(x)  # (N, 128, 28, 28)
        x = self.layer3(x)  # (N, 256, 14, 14)
        x = self.layer4(x)  # (N, 512, 7, 7)
        x = self.avgpool(x)  # (N, 512, 1, 1)
        return self.fc(torch.flatten(x, 1))  # (N, num_classes)


def resnet18(num_classes=1000):
    return ResNet(BasicBlock, [2, 2, 2, 2], num_classes)


def resnet34(num_classes=1000):
    return ResNet(BasicBlock, [3, 4, 6, 3], num_classes)


def resnet50(num_classes=1000):
    return ResNet(Bottleneck, [3, 4, 6, 3], num_classes)


def resnet101(num_classes=1000):
    return ResNet(Bottleneck, [3, 4, 23, 3], num_classes)


def resnet152(num_classes=1000):
    return ResNet(Bottleneck, [3, 8, 36, 3], num_classes)


class CifarResNet(nn.Module):
    """The paper's 6n+2 design for small images (section 4.2): (N, C, H, W) -> logits (N, classes).

    One convolution, three stages of `n` blocks with 16, 32 and 64 channels, mean over all pixels,
    one linear layer. With `PlainBlock` it is the plain network of the same depth. Published CIFAR
    weights in this layout load here once their `linear.` is renamed to `fc.`.
    """

    def __init__(self, block, n, num_classes=10, in_channels=3, shortcut=option_a):
        super().__init__()
        self.conv1 = conv3x3(in_channels, 16)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = stage(block, 16, 16, n, 1, shortcut)
        self.layer2 = stage(block, 16, 32, n, 2, shortcut)
        self.layer3 = stage(block, 32, 64, n, 2, shortcut)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)
        he_init_(self)

    def forward(self, x):  # comments: shapes for 32 x 32 images
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 16, 32, 32)
        x = self.layer1(x)  # (N, 16, 32, 32)
        x = self.layer2(x)  # (N, 32, 16, 16)
        x = self.layer3(x)  # (N, 64, 8, 8)
        x = self.avgpool(x)  # (N, 64, 1, 1)
        return self.fc(torch.flatten(x, 1))  # (N, num_classes)


def blocks_per_stage(depth):
    """The `n` in depth = 6n + 2. Raises ValueError, naming the nearest right depths."""
    if isinstance(depth, bool) or not isinstance(depth, int):
        raise ValueError(f"depth must be a whole number like 20, got {depth!r}")
    n = (depth - 2) // 6
    if depth == 6 * n + 2 and n >= 1:
        return n
    near = "8" if n < 1 else f"{6 * n + 2} or {6 * n + 8}"
    raise ValueError(f"depth must be 6n + 2 with n >= 1, got {depth}: choose {near}")


def cifar_resnet(depth, num_classes=10, in_channels=3, shortcut="A"):
    """The paper's residual network for small images; `depth` is 8, 14, 20, 26, 32, ... (6n + 2)."""
    n = blocks_per_stage(depth)
    return CifarResNet(BasicBlock, n, num_classes, in_channels, shortcut_option(shortcut))


def cifar_plain(depth, num_classes=10, in_channels=3):
    """`cifar_resnet` without the shortcuts: same layers, same number of parameters."""
    return CifarResNet(PlainBlock, blocks_per_stage(depth), num_classes, in_channels)
