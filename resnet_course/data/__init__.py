"""Real images, small enough to keep whole on the device: `digits()` and `cifar10()`.

`images` is what they are and how batches are drawn; `cifar10_files` and `download` bring the
photographs here, once.
"""

from .cifar10_files import DataUnavailable, cifar10_arrays
from .images import (
    CIFAR10_CLASSES,
    ImageData,
    cifar10,
    crop_and_flip,
    digits,
    load,
    preset,
    shift,
)

__all__ = [
    "CIFAR10_CLASSES",
    "DataUnavailable",
    "ImageData",
    "cifar10",
    "cifar10_arrays",
    "crop_and_flip",
    "digits",
    "load",
    "preset",
    "shift",
]
