"""One file from the internet: several sources, resumed after a break, verified before use.

Only `data` uses this module. Python's standard library does the transfer; `filelock` (every torch
brings it along) keeps two processes apart. Left out: parallel connections, mirrors by country.
"""

import errno
import hashlib
import http.client
import ssl
import time
from contextlib import contextmanager
from functools import partial
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

CERTIFICATE = (
    "a network that looks into its connections has a certificate of its own: name its file in the "
    "environment variable SSL_CERT_FILE"
)
ATTEMPTS = 20  # at one source, as long as each brings the file further


class DataUnavailable(RuntimeError):
    """The data could not be had. The message is one sentence: what happened, and what to do."""


class SourceFailed(Exception):
    """One source did not deliver; the next may."""


class TooSlow(SourceFailed):
    """One source delivers, but so slowly that the others are worth a try first."""


def md5(content=b""):
    """The checksum of `content`, as a hash object. It tells copies apart, it is no protection."""
    return hashlib.md5(content, usedforsecurity=False)


@contextmanager
def writing(folder):
    """Failures of the file system, in one sentence."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"it cannot be written ({error.strerror or error})"
        raise DataUnavailable(
            f"The folder {folder} does not take the data: {reason}; make room there, or name "
            "another folder in the environment variable RESNET_COURSE_DATA."
        ) from error


@contextmanager
def only_one_process(folder):
    """Create `folder` and hold its lock: other processes wait here. A killed process holds none."""
    from filelock import FileLock, Timeout

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".download.lock")
        try:
            lock.acquire(timeout=1)
        except Timeout:
            print(f"Another process is preparing {folder}: waiting for it.")
            lock.acquire()
        except NotImplementedError as error:  # filelock below 3.14, on a folder without locks
            raise OSError(errno.ENOLCK, "it cannot be locked") from error
    try:
        yield
    finally:
        lock.release()


def fetch(path, sources, size, checksum, *, timeout=20.0, patience=15.0, slow=100_000):
    """Download the file of `size` bytes with md5 `checksum` to `path`.

    The sources (addresses) are tried in turn. What has arrived stays in `path` + ".part", and the
    next attempt, at whatever source, asks only for the rest; `path` itself appears whole and
    verified. `timeout` is the longest silence in seconds. A source with less than `slow` bytes a
    second over `patience` seconds is put behind the others, and taken if those fail.

    Raises `DataUnavailable` when every source failed or the file cannot be written.
    """
    part = path.with_name(path.name + ".part")
    waiting, slow_ones, failures = list(sources), set(), {}
    while waiting:
        source = waiting.pop(0)
        hurry = patience if waiting and source not in slow_ones else None
        try:
            complete(part, source, size, partial(_other_md5, checksum), timeout, hurry, slow)
        except TooSlow as failure:
            failures[source] = failure
            slow_ones.add(source)
            waiting.append(source)
        except SourceFailed as failure:
            failures[source] = failure
        else:
            with writing(path.parent):
                part.replace(path)
            return
    causes = [getattr(failure.__cause__, "reason", None) for failure in failures.values()]
    what, do = "every source failed", "try again later"
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        what, do = "a certificate does not verify", CERTIFICATE
    elif all(isinstance(failure.__cause__, URLError) for failure in failures.values()):
        what = "no network"
    reasons = ", ".join(f"{urlsplit(source).netloc}: {why}" for source, why in failures.items())
    raise DataUnavailable(
        f"{path.name} could not be downloaded, {what} ({reasons}); {do}, or put a copy of that "
        f"file into {path.parent}."
    )


def _other_md5(checksum, path):
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, md5).hexdigest()
    return f"md5 {found} instead of {checksum}" if found != checksum else ""


def complete(part, source, size, verify, timeout, patience=None, slow=0):
    """Bring the unfinished file `part` to its full length, and verify it.

    `verify(part)` says in what the whole file is another one, or "". Raises `SourceFailed`.
    """
    for _ in range(ATTEMPTS):
        before = _length(part)
        if before < size:
            failure = _receive(part, before, source, size, timeout, patience, slow)
            if failure and (isinstance(failure, TooSlow) or _length(part) == before):
                raise failure
            if failure:
                continue
        difference = verify(part)
        if not difference:
            return
        with writing(part.parent):
            part.unlink()
        failure = SourceFailed(f"wrong file, {difference}")
        if before == 0:  # all of it came from here; else the beginning may be at fault: once more
            raise failure
    raise failure


def _receive(part, start, source, size, timeout, patience, slow):
    """Append what `source` sends from byte `start` on -> None or the `SourceFailed`."""
    headers = {"User-Agent": "resnet-course"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        with urlopen(Request(source, headers=headers), timeout=timeout) as response:
            _append(part, start, response, size, patience, slow)
    except SourceFailed as failure:
        return failure
    except HTTPError as error:
        error.close()
        return SourceFailed(f"HTTP {error.code} {error.reason}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        failure = SourceFailed(told(getattr(error, "reason", None) or error))
        failure.__cause__ = error
        return failure
    return None


def told(reason):
    """An exception of the network in a few words."""
    if isinstance(reason, ssl.SSLCertVerificationError):
        return getattr(reason, "verify_message", None) or str(reason)
    return getattr(reason, "strerror", None) or str(reason) or repr(reason)


def _append(part, start, response, size, patience, slow):
    resumed = response.status == 206
    skip = 0 if resumed else start  # this server sends all of it anew: pass over what we have
    place = response.headers.get("Content-Range", "")
    if resumed and not place.startswith(f"bytes {start}-"):
        raise SourceFailed(f"sent {place or 'an unknown part'} instead of the rest from {start}")
    length = response.headers.get("Content-Length")
    if length is not None and int(length) != size - start + skip:
        whole = int(length) + start - skip
        raise SourceFailed(f"wrong file, {whole} bytes instead of {size}")

    name = part.name.removesuffix(".part")
    bar = tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=name, disable=None)
    with writing(part.parent):
        file = open(part, "ab", buffering=0)  # noqa: SIM115
    since, in_window, left = time.monotonic(), 0, size - start
    with file, bar:
        while left and (chunk := response.read1(1 << 20)):
            in_window += len(chunk)
            fresh = memoryview(chunk)[skip:][:left]
            skip = max(0, skip - len(chunk))
            left -= len(fresh)
            bar.update(len(fresh))
            with writing(part.parent):
                while fresh:  # a disk that fills up takes a piece only, and fails at the next one
                    fresh = fresh[file.write(fresh) :]
            seconds = time.monotonic() - since
            if left and patience is not None and seconds > patience:
                if in_window < slow * seconds:
                    raise TooSlow(f"only {in_window / seconds / 1000:.0f} kB/s")
                since, in_window = time.monotonic(), 0
    if left:
        raise SourceFailed(f"broke off after {size - left} of {size} bytes")


def _length(path):
    return path.stat().st_size if path.exists() else 0
