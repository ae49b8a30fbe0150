"""CIFAR-10 by its real path: a small archive in the real format, from a server in this process."""

import errno
import gzip
import hashlib
import io
import os
import pickle
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from resnet_course import data
from resnet_course.data import cifar10_files, download
from resnet_course.data.cifar10_files import CIFAR10, Archive, cifar10_arrays
from resnet_course.data.download import DataUnavailable

PER_BATCH = 5
FOLDER = "cifar-10-batches-py"
TAR = "cifar-10-python.tar.gz"
PART = TAR + ".part"


# The archive: pickles as Python 2 wrote them (protocol 2, byte strings, numpy 1 module names)


def text(value):
    return b"U" + bytes([len(value)]) + value


def batch(pixels, labels):
    """What `cPickle.dump({"batch_label": ..., "labels": [...], "data": array}, f, 2)` wrote."""
    raw = pixels.tobytes()
    shape = b"".join(b"M" + struct.pack("<H", n) for n in pixels.shape) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    )
    array += b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e"
    names = b"](" + text(b"a_s_000001.png") * len(labels) + b"e"
    items = text(b"batch_label") + text(b"training batch 1 of 5") + text(b"labels") + numbers
    return b"\x80\x02}(" + items + text(b"data") + array + text(b"filenames") + names + b"u."


def pack(batches):
    """name -> bytes, as a .tar.gz, with the strangers that real archives have."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in {"readme.html": b"<html>", "../../evil": b"x", **batches}.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def describe(content, batches, *sources, **more):
    sums = {name: hashlib.md5(raw).hexdigest() for name, raw in batches.items()}
    md5 = hashlib.md5(content).hexdigest()
    return Archive(sources, len(content), md5, sums, per_batch=PER_BATCH, **more)


def make_batches():
    random = np.random.default_rng(0)
    names = list(CIFAR10.batches)
    pixels = random.integers(0, 256, (len(names), PER_BATCH, 3072), dtype=np.uint8)
    labels = random.integers(0, 10, (len(names), PER_BATCH))
    return (
        {n: batch(p, y.tolist()) for n, p, y in zip(names, pixels, labels, strict=True)},
        pixels,
        labels,
    )


BATCHES, PIXELS, LABELS = make_batches()
CONTENT = pack(BATCHES)


def check(arrays):
    images = PIXELS.reshape(6, PER_BATCH, 3, 32, 32).transpose(0, 1, 3, 4, 2)
    assert np.array_equal(arrays["train_images"], images[:5].reshape(-1, 32, 32, 3))
    assert np.array_equal(arrays["test_images"], images[5])
    assert np.array_equal(arrays["train_labels"], LABELS[:5].ravel())
    assert np.array_equal(arrays["test_labels"], LABELS[5])
    assert arrays["train_images"].dtype == np.uint8 and arrays["test_labels"].dtype == np.int64


# The server: one path for each way to behave


class Server(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        how, content = self.path.strip("/"), self.server.content
        asked = self.headers.get("Range")
        self.server.requests.append((how, asked))
        if how == "missing":
            return self.send_error(404)
        if how == "wrong":
            content = bytes(len(content))
        if how == "page":
            content = b"<html>Please log in</html>"
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if how == "no-range":
            start, asked = 0, None
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if asked else 200)
        if asked:
            shift = 7 if how == "other-range" else 0
            place = f"bytes {start + shift}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", place)
        if how != "no-length":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if how == "half" and not asked:
            rest = rest[: len(rest) // 2]
        if how == "drip":
            rest = rest[:1]
        step = 600 if how == "slow" else len(rest)
        try:
            for place in range(0, len(rest), step):
                self.server.sent += len(rest[place : place + step])  # before the reader has it
                self.wfile.write(rest[place : place + step])
                if how == "slow":
                    time.sleep(0.01)  # at most 60 kB/s
        except ConnectionError:  # the reader has lost patience
            pass
        return None


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.content, server.requests, server.sent = CONTENT, [], 0
        server.url = f"http://127.0.0.1:{server.server_port}/"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def archive_at(server, *ways, **more):
    return describe(CONTENT, BATCHES, *(server.url + way for way in ways), **more)


def left_in(folder):
    return sorted(p.name for p in folder.iterdir() if p.name != ".download.lock")


# Downloading


def test_download_then_the_fast_copy(server, tmp_path):
    archive = archive_at(server, "good")
    check(cifar10_arrays(tmp_path / "new" / "folder", archive))
    assert left_in(tmp_path / "new" / "folder") == ["cifar10.npz"]
    check(cifar10_arrays(tmp_path / "new" / "folder", archive))
    assert len(server.requests) == 1


def test_root_from_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RESNET_COURSE_DATA", str(tmp_path))
    check(cifar10_arrays(archive=archive_at(server, "good")))
    assert left_in(tmp_path) == ["cifar10.npz"]


def test_root_without_any_setting_is_a_cache_folder(server, tmp_path, monkeypatch):
    monkeypatch.delenv("RESNET_COURSE_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    check(cifar10_arrays(archive=archive_at(server, "good")))
    assert left_in(tmp_path / ".cache" / "resnet-course") == ["cifar10.npz"]


def test_broken_off_half_way_asks_only_for_the_rest(server, tmp_path):
    check(cifar10_arrays(tmp_path, archive_at(server, "half")))
    half = len(CONTENT) // 2
    assert server.requests == [("half", None), ("half", f"bytes={half}-")]
    assert server.sent == len(CONTENT)


def test_interrupted_download_goes_on_in_the_next_session(server, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT[:1000])
    check(cifar10_arrays(tmp_path, archive_at(server, "good")))
    assert server.requests == [("good", "bytes=1000-")]
    assert server.sent == len(CONTENT) - 1000
    assert left_in(tmp_path) == ["cifar10.npz"]


def test_complete_but_unverified_part_needs_no_network(tmp_path):
    (tmp_path / PART).write_bytes(CONTENT)
    check(cifar10_arrays(tmp_path, describe(CONTENT, BATCHES, "http://127.0.0.1:1/")))


def test_server_that_ignores_range(server, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT[:1000])
    check(cifar10_arrays(tmp_path, archive_at(server, "no-range")))
    assert server.requests == [("no-range", "bytes=1000-")]


def test_server_that_tells_no_length(server, tmp_path):
    check(cifar10_arrays(tmp_path, archive_at(server, "no-length")))


@pytest.mark.parametrize("size", [1000, len(CONTENT), len(CONTENT) + 5])
def test_part_of_another_file_is_dropped(server, tmp_path, size):
    (tmp_path / PART).write_bytes(b"x" * size)
    check(cifar10_arrays(tmp_path, archive_at(server, "good")))
    assert server.requests[-1] == ("good", None)


@pytest.mark.parametrize("way", ["missing", "wrong", "page", "drip", "other-range"])
def test_next_source_after_a_bad_one(server, tmp_path, way):
    (tmp_path / PART).write_bytes(CONTENT[:1000])
    check(cifar10_arrays(tmp_path, archive_at(server, way, "good")))
    assert server.requests[-1][0] == "good"
    assert left_in(tmp_path) == ["cifar10.npz"]


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("missing", "HTTP 404 Not Found"),
        ("wrong", "wrong file, md5 [0-9a-f]{32} instead of [0-9a-f]{32}"),
        ("page", f"wrong file, 26 bytes instead of {len(CONTENT)}"),
    ],
)
def test_every_source_failed(server, tmp_path, way, reason):
    with pytest.raises(
        DataUnavailable, match=f"every source failed .*{reason}.*put a copy"
    ) as caught:
        cifar10_arrays(tmp_path, archive_at(server, way))
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == []


def test_416_from_a_source_with_a_shorter_file(server, tmp_path):
    (tmp_path / PART).write_bytes(CONTENT[:1000])
    with pytest.raises(DataUnavailable, match="HTTP 416"):
        cifar10_arrays(tmp_path, archive_at(server, "page"))
    assert left_in(tmp_path) == [PART]  # what has come is good: the next call goes on from there


def test_slow_source_is_left_only_for_another(server, tmp_path):
    check(cifar10_arrays(tmp_path / "a", archive_at(server, "slow", "good", patience=0.2)))
    assert [way for way, _ in server.requests] == ["slow", "good"]
    assert server.requests[1][1] is not None  # what the slow one sent is kept
    server.requests.clear()
    check(cifar10_arrays(tmp_path / "b", archive_at(server, "slow", "missing", patience=0.2)))
    assert [way for way, _ in server.requests] == ["slow", "missing", "slow"]
    server.requests.clear()
    small = describe(CONTENT, BATCHES, server.url + "slow", patience=0.01)
    check(cifar10_arrays(tmp_path / "c", small))
    assert len(server.requests) == 1


def test_no_network(tmp_path):
    with pytest.raises(DataUnavailable, match=r"no network \(127.0.0.1:1: Connection refused\)"):
        cifar10_arrays(tmp_path, describe(CONTENT, BATCHES, "http://127.0.0.1:1/"))
    assert left_in(tmp_path) == []


@pytest.fixture
def https(tmp_path):
    """The address of a server whose certificate nobody knows, and the certificate's file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    make += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *args: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}/x", certificate
    server.shutdown()
    server.server_close()


def test_certificate_that_does_not_verify_is_named(https, tmp_path, monkeypatch):
    address, certificate = https
    with pytest.raises(DataUnavailable, match=r"a certificate does not verify .*SSL_CERT_FILE"):
        download.fetch(tmp_path / "x", [address], 10, "0" * 32)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # what the sentence says helps
    with pytest.raises(DataUnavailable, match=r"every source failed .*HTTP 501"):
        download.fetch(tmp_path / "x", [address], 10, "0" * 32)


def test_a_folder_that_cannot_be_locked(tmp_path, monkeypatch):
    import filelock

    def acquire(*args, **options):
        raise NotImplementedError("FileSystem does not appear to support flock")  # filelock 3.13

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with (
        pytest.raises(DataUnavailable, match="cannot be locked"),
        download.only_one_process(tmp_path),
    ):
        pass


def test_silent_server_times_out(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DataUnavailable, match="timed out"):
            download.fetch(tmp_path / TAR, [f"http://127.0.0.1:{port}/"], 10, "0", timeout=0.2)


# The disk


def test_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataUnavailable, match=r"it cannot be written \(.+\); make room there"):
            cifar10_arrays(root, archive_at(server, "good"))
    assert server.requests == []


@contextmanager
def small_disk(folder, size):
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_while_downloading(server, tmp_path):
    with small_disk(tmp_path / "disk", len(CONTENT) // 2) as disk:
        with pytest.raises(DataUnavailable, match="the disk is full; make room there"):
            cifar10_arrays(disk, archive_at(server, "good", "good"))
        assert left_in(disk) == [PART]
        assert len(server.requests) == 1  # another source would not help
        subprocess.run(["mount", "-o", f"remount,size={9 * len(CONTENT)}", str(disk)], check=True)
        check(cifar10_arrays(disk, archive_at(server, "good")))
        assert left_in(disk) == ["cifar10.npz"]


def test_full_disk_while_making_the_fast_copy(server, tmp_path, capsys):
    with small_disk(tmp_path / "disk", len(CONTENT) * 5 // 4) as disk:
        check(cifar10_arrays(disk, archive_at(server, "good")))
        assert "the disk is full" in capsys.readouterr().out
        assert left_in(disk) == [TAR]


def test_full_disk_without_mounting():
    with (
        pytest.raises(DataUnavailable, match="the disk is full"),
        download.writing("folder"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


# Copies that are there already


@pytest.fixture
def copy(tmp_path):
    """A folder with the fast copy."""
    (tmp_path / TAR).write_bytes(CONTENT)
    cifar10_arrays(tmp_path, OFFLINE)
    return tmp_path / "cifar10.npz"


OFFLINE = describe(CONTENT, BATCHES)


def test_torchvision_s_archive_stays(copy):
    assert (
        left_in(copy.parent) == [TAR, "cifar10.npz"] and (copy.parent / TAR).read_bytes() == CONTENT
    )
    (copy.parent / TAR).unlink()
    check(cifar10_arrays(copy.parent, OFFLINE))
    check(cifar10_arrays(str(copy), OFFLINE))


def test_torchvision_s_folder(tmp_path, server, capsys):
    (tmp_path / FOLDER).mkdir()
    for name, content in BATCHES.items():
        (tmp_path / FOLDER / name).write_bytes(content)
    check(cifar10_arrays(tmp_path, OFFLINE))
    assert left_in(tmp_path) == [FOLDER]

    (tmp_path / FOLDER / "data_batch_3").write_bytes(BATCHES["data_batch_2"])
    check(cifar10_arrays(tmp_path, archive_at(server, "good")))
    assert "data_batch_3 has the md5" in capsys.readouterr().out
    (tmp_path / "cifar10.npz").unlink()
    (tmp_path / FOLDER / "data_batch_3").unlink()
    check(cifar10_arrays(tmp_path, archive_at(server, "good")))
    assert "No such file" in capsys.readouterr().out


def test_archive_in_a_folder_without_write_permission(tmp_path, monkeypatch):
    (tmp_path / TAR).write_bytes(CONTENT)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    check(cifar10_arrays(tmp_path, OFFLINE))
    assert left_in(tmp_path) == [TAR]


def flip_a_bit(content):
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda c: c[: len(c) // 2], lambda c: c[:-1], lambda _: b"", flip_a_bit, lambda _: b"PK" * 99],
    ids=["half", "last byte", "empty", "one bit", "no zip"],
)
def test_damaged_fast_copy_is_noticed_and_made_again(copy, damage, capsys):
    copy.write_bytes(damage(copy.read_bytes()))
    with pytest.raises(
        DataUnavailable, match=r"cannot be used as CIFAR-10 .+replace or delete it"
    ) as e:
        cifar10_arrays(copy, OFFLINE)
    assert "\n" not in str(e.value)
    check(cifar10_arrays(copy.parent, OFFLINE))
    assert capsys.readouterr().out.count("Going on without it.") == 1
    check(cifar10_arrays(copy, OFFLINE))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("train_images", None, "train_images"),
        (
            "train_images",
            np.zeros((3, 32, 32, 3), np.uint8),
            r"uint8 \(3, .*expected uint8 \(25, 32",
        ),
        ("test_images", np.zeros((5, 32, 32, 3)), "float64"),
        ("test_labels", np.zeros(5), r"float64 \(5,\), expected int64 \(5,\)"),
        ("test_labels", np.full(5, 10), "runs from 10 to 10, expected 0 to 9"),
        ("train_labels", np.full(25, -1), "runs from -1 to -1"),
        ("train_labels", np.array([print] * 25, dtype=object), "allow_pickle=False"),
    ],
)
def test_npz_of_something_else(copy, name, value, reason):
    arrays = dict(np.load(copy))
    arrays = {n: a for n, a in (arrays | {name: value}).items() if a is not None}
    np.savez(copy, **arrays)
    with pytest.raises(DataUnavailable, match=reason):
        cifar10_arrays(copy, OFFLINE)


def test_compressed_npz_and_small_labels_are_fine(copy):
    arrays = dict(np.load(copy))
    arrays["train_labels"] = arrays["train_labels"].astype(np.uint8)
    np.savez_compressed(copy, **arrays)
    check(cifar10_arrays(copy, OFFLINE))


def test_missing_npz(tmp_path):
    with pytest.raises(DataUnavailable, match=r"There is no file .*my\.npz"):
        cifar10_arrays(tmp_path / "my.npz", OFFLINE)


# Pickles and tar files that mean harm


def test_pickle_that_runs_a_command_is_refused(tmp_path):
    hacked = tmp_path / "hacked"
    attack = b"\x80\x02cos\nmkdir\nX" + struct.pack("<i", len(str(hacked))) + str(hacked).encode()
    attack += b"\x85R."
    pickle.loads(attack)  # the attack works on a plain reader
    hacked.rmdir()
    evil = {**BATCHES, "data_batch_2": attack}
    (tmp_path / TAR).write_bytes(pack(evil))
    with pytest.raises(DataUnavailable, match=r"asks for os\.mkdir, which no image needs"):
        cifar10_files._read(tmp_path / TAR, describe(pack(evil), evil))
    assert not hacked.exists()


def test_nothing_is_read_from_an_archive_with_a_wrong_checksum(tmp_path):
    (tmp_path / TAR).write_bytes(pack({**BATCHES, "more": b""}))
    with pytest.raises(DataUnavailable, match="could not be downloaded"):
        cifar10_arrays(tmp_path, OFFLINE)


def test_archive_lacking_a_batch(tmp_path, capsys):
    content = pack({name: raw for name, raw in BATCHES.items() if name != "test_batch"})
    (tmp_path / TAR).write_bytes(content)
    with pytest.raises(DataUnavailable):
        cifar10_arrays(tmp_path, describe(content, BATCHES))
    assert "it lacks test_batch" in capsys.readouterr().out


def test_members_are_never_written_to_the_disk(copy):
    assert left_in(copy.parent) == [TAR, "cifar10.npz"]
    assert not list(copy.parent.parent.glob("evil"))
    assert zipfile.ZipFile(copy).testzip() is None


# Two at once


SCRIPT = """
import sys
from resnet_course.data.cifar10_files import Archive, cifar10_arrays
arrays = cifar10_arrays(sys.argv[1], eval(sys.argv[2]))
print(arrays["train_images"].sum(), arrays["test_labels"].sum())
"""


def test_two_processes_download_once(server, tmp_path):
    archive = archive_at(server, "slow")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), repr(archive)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    results = {run.communicate(timeout=60)[0].splitlines()[-1] for run in runs}
    assert results == {f"{PIXELS[:5].sum()} {LABELS[5].sum()}"}
    assert len(server.requests) == 1
    assert left_in(tmp_path) == ["cifar10.npz"]


def test_killed_process_leaves_a_part_and_no_lock(server, tmp_path):
    archive = archive_at(server, "slow")
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path), repr(archive)])
    while not (tmp_path / PART).exists() or not (tmp_path / PART).stat().st_size:
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    assert left_in(tmp_path) == [PART]
    check(cifar10_arrays(tmp_path, archive_at(server, "good")))
    assert server.requests[-1] != ("good", None)


def test_threads_at_once(server, tmp_path):
    archive = archive_at(server, "good")
    with ThreadPoolExecutor(4) as pool:
        for arrays in pool.map(lambda _: cifar10_arrays(tmp_path, archive), range(4)):
            check(arrays)
    assert len(server.requests) == 1


# The real size


def test_torchvision_states_the_same_checksums():
    from torchvision.datasets import CIFAR10 as Torchvision

    assert Torchvision.tgz_md5 == CIFAR10.md5 and Torchvision.url == CIFAR10.sources[-1]
    lists = Torchvision.train_list + Torchvision.test_list
    assert dict(map(tuple, lists)) == CIFAR10.batches
    assert len(CIFAR10.batches) == 6 and CIFAR10.per_batch == 10_000


@pytest.mark.skipif(
    "RESNET_COURSE_DATA" not in os.environ, reason="RESNET_COURSE_DATA names no copy"
)
def test_real_cifar10():
    images = data.cifar10()
    assert images.train_images.shape == (50_000, 3, 32, 32) and images.image_shape == (3, 32, 32)
    assert torch.equal(images.train_labels.bincount(), torch.full((10,), 5000))
    assert torch.equal(images.test_labels.bincount(), torch.full((10,), 1000))
    assert images.train_images.mean((0,)).abs().max() < 1e-4
    assert images.train_images.std() == pytest.approx(1, abs=1e-4)
    pixels = images.pixels(images.test_images[:100])
    assert torch.allclose(pixels, pixels.round(), atol=1e-3)
    means = images.mean.mean((1, 2)) / 255  # the well-known 0.4914, 0.4822, 0.4465
    assert torch.allclose(means, torch.tensor([0.4914, 0.4822, 0.4465]), atol=1e-4)
