"""The files of CIFAR-10: found, downloaded, verified, read. Used by `data` alone."""

import hashlib
import io
import os
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .download import DataUnavailable, fetch, md5, only_one_process, writing

FOLDER = "cifar-10-batches-py"  # in the archive, and where torchvision unpacks it
NAMES = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Archive:
    """A data set in the format of torchvision's CIFAR-10: where it is, and what has to be in it.

    `batches` maps the file names inside to their md5 checksums; the last one holds the test images.
    `patience`: see `fetch`.
    """

    sources: tuple
    size: int
    md5: str
    batches: dict
    per_batch: int = 10_000
    patience: float = 15.0


# Checksums from torchvision/datasets/cifar.py. The original host comes last: it has sent about
# 60 kB/s since June 2026 (pytorch/vision#9536).
CIFAR10 = Archive(
    sources=(
        "https://air-example-data.s3.amazonaws.com/cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
    size=170_498_071,
    md5="c58f30108f718f92721af3b95e74349a",
    batches={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)


def cifar10_arrays(root=None, archive=CIFAR10):
    """CIFAR-10 as numpy arrays, downloaded if need be -> dict.

    `train_images` (50000, 32, 32, 3) uint8, `train_labels` (50000,) int64, and `test_images`,
    `test_labels` with 10,000. The order of the images depends on where they come from: shuffle
    before you cut a subset.

    `root` is a folder or a .npz file with these four arrays; without it the environment variable
    RESNET_COURSE_DATA decides, else `~/.cache/resnet-course`. In a folder these are looked for:
    `cifar10.npz`, torchvision's `cifar-10-batches-py` and `cifar-10-python.tar.gz`. An archive that
    had to be downloaded is removed after its images are in `cifar10.npz`; yours stays. A
    `cifar10.npz` in that folder that cannot be used is replaced.

    Raises `DataUnavailable`.
    """
    root = _data_folder(root)
    if root.suffix == ".npz":
        if not os.path.exists(root):
            raise DataUnavailable(f"There is no file {root}: correct the path, or name a folder.")
        return _read(root, archive)
    fast, packed = root / "cifar10.npz", root / "cifar-10-python.tar.gz"
    found = _read_if_whole(fast, archive, quiet=True) or _read_if_whole(root / FOLDER, archive)
    if found:
        return found
    if os.path.exists(packed) and not os.access(root, os.W_OK):
        return _read(packed, archive)
    with only_one_process(root):
        found = _read_if_whole(fast, archive)  # another process may have made it meanwhile
        if found:
            return found
        found = _read_if_whole(packed, archive)
        if found:
            _save(fast, found)
            return found
        fetch(packed, archive.sources, archive.size, archive.md5, patience=archive.patience)
        arrays = _read(packed, archive)
        if _save(fast, arrays):
            packed.unlink()
        return arrays


def _data_folder(root):
    root = root or os.environ.get("RESNET_COURSE_DATA") or "~/.cache/resnet-course"
    try:
        return Path(root).expanduser()
    except RuntimeError as error:
        raise DataUnavailable(
            f"There is no home folder for {root}: name a folder in the environment variable "
            "RESNET_COURSE_DATA."
        ) from error


def _read_if_whole(path, archive, quiet=False):
    """What `_read` finds at `path`, or None when there is nothing, or only something damaged."""
    if not os.path.exists(path):
        return None
    try:
        return _read(path, archive)
    except DataUnavailable as error:
        if not quiet:
            print(f"{error} Going on without it.")
        return None


def _read(path, archive):
    """The arrays in a .npz file, a folder of batches or an archive, if everything is right."""
    try:
        if path.suffix == ".npz":
            arrays = _read_npz(path)
        elif path.is_dir():
            arrays = _read_batches(lambda name: (path / name).read_bytes(), archive)
        else:
            arrays = _read_archive(path, archive)
        return _checked(arrays, archive)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails in a dozen ways
        reason = str(error).partition("\n")[0] or repr(error)
        raise DataUnavailable(
            f"{path} cannot be used as CIFAR-10 ({reason.rstrip('.')}): replace or delete it."
        ) from error


def _read_npz(path):
    """The fast local copy. A .npz carries a CRC-32 of each array, and every read compares it."""
    with open(path, "rb") as file:
        arrays = np.load(file, allow_pickle=False)
        return {name: arrays[name] for name in NAMES}


def _read_archive(path, archive):
    """The packed archive, read from its stream: nothing is unpacked to the disk."""
    with open(path, "rb") as file:
        _verify(path.name, hashlib.file_digest(file, md5), archive.md5)
        file.seek(0)
        names = {f"{FOLDER}/{name}": name for name in archive.batches}
        contents = {}
        with tarfile.open(fileobj=file, mode="r:gz") as tar:
            for member in tar:
                if member.name in names and member.isfile():
                    contents[names[member.name]] = tar.extractfile(member).read()
    if missing := sorted(archive.batches.keys() - contents.keys()):
        raise ValueError(f"it lacks {', '.join(missing)}")
    return _read_batches(contents.pop, archive)


def _read_batches(read, archive):
    """The batch files: `read(name)` gives the bytes, unpickled only after they are verified."""
    images, labels = [], []
    for name, checksum in archive.batches.items():
        content = read(name)
        _verify(name, md5(content), checksum)
        batch = _Batch(io.BytesIO(content), encoding="bytes").load()
        images.append(batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        labels.append(np.array(batch[b"labels"], dtype=np.int64))
    return {
        "train_images": np.ascontiguousarray(np.concatenate(images[:-1])),
        "train_labels": np.concatenate(labels[:-1]),
        "test_images": np.ascontiguousarray(images[-1]),
        "test_labels": labels[-1],
    }


def _verify(name, digest, checksum):
    if digest.hexdigest() != checksum:
        raise ValueError(f"{name} has the md5 {digest.hexdigest()} instead of {checksum}")


class _Batch(pickle.Unpickler):
    """Reads numbers, texts, lists, dicts and numpy arrays: the batch files hold nothing else.

    A pickle can name any function to be called. Here only the three that rebuild an array exist.
    """

    def find_class(self, module, name):
        if (module, name) == ("numpy.core.multiarray", "_reconstruct"):
            return np.empty(0).__reduce__()[0]  # its module has another name in numpy 2
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            # Python 2 wrote align and copy as 0 and 1, which numpy 2.4 warns about.
            return lambda code, align, copy: np.dtype(code.decode(), bool(align), bool(copy))
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image needs")


def _checked(arrays, archive):
    """The arrays, if they have the right shapes, types and labels; labels become int64."""
    train = archive.per_batch * (len(archive.batches) - 1)
    for part, count in (("train", train), ("test", archive.per_batch)):
        images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
        shape = (count, 32, 32, 3)
        if images.shape != shape or images.dtype != np.uint8:
            raise ValueError(
                f"{part}_images is {images.dtype} {images.shape}, expected uint8 {shape}"
            )
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{part}_labels is {labels.dtype} {labels.shape}, expected int64 ({count},)"
            )
        if labels.min() < 0 or labels.max() > 9:
            raise ValueError(
                f"{part}_labels runs from {labels.min()} to {labels.max()}, expected 0 to 9"
            )
        arrays[f"{part}_labels"] = labels.astype(np.int64, copy=False)
    return arrays


def _save(path, arrays):
    """Write the fast local copy, whole or not at all -> whether it is there."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        with writing(path.parent), open(unfinished, "wb") as file:
            np.savez(file, **arrays)
        with writing(path.parent):
            unfinished.replace(path)
        return True
    except DataUnavailable as error:  # the images are here all the same
        print(f"{error} This time the images come from the archive.")
        return False
    finally:
        unfinished.unlink(missing_ok=True)
