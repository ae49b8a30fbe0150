"""Weights of torchvision's five ResNets: fetched once, verified, read without running code.

A checkpoint is a pickle, and a pickle can call any function: `weights_only=True` reads numbers and
nothing else. torchvision writes the first characters of a file's sha256 into its name.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch

from .download import DataUnavailable, SourceFailed, complete, only_one_process, writing

NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class Weights:
    """A state dict, the names of the classes, and how images have to be prepared for it.

    The shorter side is resized to `resize` pixels, the middle `crop` x `crop` cut out, pixel values
    brought to 0 ... 1, `mean` subtracted and the result divided by `std`, channel by channel.
    """

    state: dict
    classes: tuple
    resize: int
    crop: int
    mean: tuple
    std: tuple


def imagenet(network, root=None, source=None, timeout=10.0):
    """torchvision's ImageNet weights (IMAGENET1K_V1) of `network`, like "resnet18" -> `Weights`.

    They are looked for in PyTorch's own cache and in `root` (without it the folder of the
    environment variable RESNET_COURSE_DATA, else `~/.cache/resnet-course`), else downloaded: 45 MB
    for resnet18, 98 for resnet50. `source` is another address than torchvision's. Raises
    `DataUnavailable`, with one sentence.
    """
    if network not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {network!r}")
    from torchvision import models

    choice = models.get_model_weights(network).IMAGENET1K_V1
    how = choice.transforms()
    state = checkpoint(source or choice.url, root, timeout)
    return Weights(
        state,
        tuple(choice.meta["categories"]),
        how.resize_size[0],
        how.crop_size[0],
        tuple(how.mean),
        tuple(how.std),
    )


def checkpoint(source, root=None, timeout=10.0):
    """The state dict at an address that ends in NAME-SHA256.pth, fetched if need be -> dict.

    A file that does not have the sha256 of its name is never read.
    """
    name = urlsplit(source).path.rpartition("/")[2]
    named = re.fullmatch(r".+-([0-9a-f]{8,64})\.pth", name)
    if not named:
        raise ValueError(f"the file's name must end in -SHA256.pth, got {name!r}")
    folder = _folder(root)
    path, shared = folder / name, Path(torch.hub.get_dir()) / "checkpoints" / name
    for here in (path, shared):
        if here.is_file() and _sha256(here).startswith(named[1]):
            return _read(here)
    with only_one_process(folder):
        if not (path.is_file() and _sha256(path).startswith(named[1])):
            _fetch(path, source, named[1], timeout)
    return _read(path)


def _folder(root):
    root = root or os.environ.get("RESNET_COURSE_DATA") or "~/.cache/resnet-course"
    try:
        folder = Path(root).expanduser()
    except RuntimeError as error:
        raise DataUnavailable(
            f"There is no home folder for {root}: name a folder in the environment variable "
            "RESNET_COURSE_DATA."
        ) from error
    return folder.parent if folder.suffix == ".npz" else folder


def _sha256(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _read(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise TypeError("it holds more than tensors")
        return state
    except MemoryError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise DataUnavailable(f"{path.name} holds no weights ({reason}): delete it.") from error


def _fetch(path, source, sha256, timeout):
    """Bring the file here, whole and verified. What has arrived is kept for the next attempt."""
    part, host = path.with_name(path.name + ".part"), urlsplit(source).netloc
    try:
        size = _size(source, timeout)
        complete(part, source, size, partial(_other_sha256, sha256), timeout)
    except SourceFailed as why:
        raise DataUnavailable(
            f"{path.name} could not be downloaded ({host}: {why}); try again later, or put a "
            f"copy of that file into {_short(path.parent)}."
        ) from why
    with writing(path.parent):
        part.replace(path)


def _size(source, timeout):
    """The file's length in bytes, which the server tells before it sends anything."""
    request = Request(source, method="HEAD", headers={"User-Agent": "resnet-course"})
    try:
        with urlopen(request, timeout=timeout) as response:
            length = response.headers.get("Content-Length")
    except (OSError, ValueError) as error:  # an HTTPError is an OSError
        reason = getattr(error, "reason", None) or error
        raise SourceFailed(getattr(reason, "strerror", None) or str(reason)) from error
    if not length:
        raise SourceFailed("the server does not tell the length of the file")
    return int(length)


def _other_sha256(beginning, path):
    found = _sha256(path)
    if found.startswith(beginning):
        return ""
    return f"its sha256 begins {found[:8]} instead of {beginning[:8]}"


def _short(path):
    """The path with ~ for the home folder."""
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home) else str(path)
