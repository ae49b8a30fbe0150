"""Photographs of the reader's own: whatever lies in a file -> pixels (3, H, W), or one sentence.

Files come from phones, scanners and the web: turned by a note in the file (EXIF), grey, in printing
colours, with 16 bits, transparent, far too large, cut off, or no pictures at all. Pillow, which
torchvision brings along, does the reading. Left out: colour profiles, films (the first frame
counts), and formats for which Pillow needs another package (HEIC).
"""

import warnings
from pathlib import Path

import numpy as np
import torch

SMALLEST = 16  # pixels: a shorter side shows nothing that a network could name
LARGEST = 1024  # pixels of the longer side after reading: networks take 32 or 224
MOST = 178_956_970  # pixels in a file: twice Pillow's own limit, where it refuses to open


class NotAPhoto(ValueError):
    """This file does not give a picture. The message is one sentence: why, and what to do."""


def read(path):
    """One picture file -> uint8 (3, H, W), upright, in red, green, blue, at most 1,024 a side.

    Turned as its EXIF note says; grey and printing colours (CMYK) become RGB; 16 bits become 8;
    what is transparent becomes white. Raises `NotAPhoto`.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        what = "a folder, not a file: use photos.folder" if path.is_dir() else "not there"
        raise NotAPhoto(f"{path.name or path} is {what}.")
    try:
        return torch.from_numpy(_pixels(path)).permute(2, 0, 1).contiguous()
    except NotAPhoto:
        raise
    except MemoryError:
        raise NotAPhoto(f"{path.name} does not fit into memory: make it smaller first.") from None
    except PermissionError:
        raise NotAPhoto(f"{path.name} may not be read: change its permissions.") from None
    except Exception as error:  # a damaged file fails in a dozen ways
        raise NotAPhoto(_why(path, error)) from error


def _pixels(path):
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large files and odd notes: see below
        with Image.open(path) as image:
            width, height = image.size
            if min(width, height) < SMALLEST:
                raise NotAPhoto(
                    f"{path.name} has only {width} x {height} pixels: give a picture of at least "
                    f"{SMALLEST} x {SMALLEST}."
                )
            image.draft("RGB", (2 * LARGEST, 2 * LARGEST))  # a large JPEG is decoded smaller
            image.load()
            image = _upright(image, ImageOps)
            image.thumbnail((LARGEST, LARGEST), reducing_gap=3.0)
            return np.array(_rgb(image, Image))


def _upright(image, ops):
    try:
        return ops.exif_transpose(image)
    except Exception:  # a broken note is no reason to refuse the picture
        return image


def _rgb(image, pil):
    """Any of Pillow's modes -> RGB with 8 bits."""
    if image.mode.startswith(("I", "F")):  # 16 bits or more; `convert` would cut them off at 255
        values = np.asarray(image).astype(np.float64)
        whole = 65535 if image.mode.startswith("I") and values.max() > 255 else 255
        whole = whole if image.mode.startswith("I") else max(values.max(), 1e-12)
        grey = (values.clip(0, whole) * (255 / whole)).round().astype(np.uint8)
        return pil.fromarray(grey).convert("RGB")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        image = image.convert("RGBA")
        paper = pil.new("RGBA", image.size, "white")
        return pil.alpha_composite(paper, image).convert("RGB")
    return image.convert("RGB")


def _why(path, error):
    """One sentence for what Pillow raised."""
    from PIL import Image, UnidentifiedImageError

    if path.stat().st_size == 0:
        return f"{path.name} is empty: copy it again."
    if path.suffix.lower() in (".heic", ".heif", ".avif") and isinstance(
        error, UnidentifiedImageError
    ):
        return f"{path.name} is in a phone's own format: save it as JPEG first."
    if isinstance(error, UnidentifiedImageError):
        return f"{path.name} is not a picture in a format that can be read: use JPEG or PNG."
    if isinstance(error, Image.DecompressionBombError):
        return f"{path.name} has more than {MOST // 10**6} million pixels: make it smaller first."
    reason = (str(error).partition("\n")[0] or type(error).__name__).rstrip(".")
    return f"{path.name} is damaged or cut off ({reason}): copy it again."


def folder(path):
    """Every picture in a folder, by name -> {file name: uint8 (3, H, W)}.

    Prints one sentence for each file that is none. Hidden files and folders inside are passed over.
    Raises `NotAPhoto` where nothing is left.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise NotAPhoto(f"There is no folder {path}: write its path, in quotes.")
    found = {}
    for file in sorted(path.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            try:
                found[file.name] = read(file)
            except NotAPhoto as reason:
                print(reason)
    if not found:
        raise NotAPhoto(f"The folder {path} holds no picture that can be read.")
    return found


def samples():
    """The two photographs that come with scikit-learn -> {"china": ..., "flower": ...}.

    Each is uint8 (3, 427, 640): a temple in a park, and a blossom. No download, ever.
    """
    from sklearn.datasets import load_sample_image

    return {
        name: torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).permute(2, 0, 1)
        for name in ("china", "flower")
    }
