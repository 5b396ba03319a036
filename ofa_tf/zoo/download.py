"""Downloads that resume, are limited in size, hashed, and cached by address.

A download of `<name>` is `<name>.part` until it is whole, and `<name>.part.json` says of which version of the file.
Beside a whole one, `<name>.json` holds its address, size and sha256. urllib asks for the bytes as they are, without
compression, so offsets, sizes and hashes are those of the file.
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ofa_tf.errors import DownloadError, FormatError
from ofa_tf.jsonio import read_json, write_json

ATTEMPTS = 5
PAUSE_S = 0.5  # before the second attempt; doubled before each further one
_CHUNK = 1 << 18
_BUSY = (429, 500, 502, 503, 504)

Tell = Callable[[int, int | None], None]


class _Interrupted(Exception):
    """The connection broke, or the server is busy: worth another attempt."""


def default_cache() -> Path:
    """The folder of downloads: `$OFA_TF_CACHE`, or `~/.cache/ofa-tf`."""
    return Path(os.environ.get("OFA_TF_CACHE") or Path.home() / ".cache" / "ofa-tf")


def file_sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    url: str,
    cache_dir: str | os.PathLike | None = None,
    *,
    max_bytes: int,
    sha256: str | None = None,
    progress: Tell | None = None,
    timeout_s: float = 30.0,
) -> Path:
    """Downloads a file unless the cache has it, and goes on where an interrupted download stopped.

    Args:
        url: an http or https address.
        cache_dir: the folder of downloads; None for `default_cache()`.
        max_bytes: the most that the file may have.
        sha256: what the file must hash to, in hexadecimal, or None. A cached file that hashes to something else is
            downloaded again.
        progress: called with the bytes that are there and the size of the file, or None where the server does not
            say it.
        timeout_s: how long to wait for the server's next bytes, in seconds.

    Returns:
        The path of the file. Beside it, `<name>.json` holds its `url`, `size_bytes` and `sha256`.

    Raises:
        DownloadError: a bad address, no connection, a refusal of the server, a file too large, cut short or with
            another hash, or a cache that cannot be written. What can be resumed is kept.
    """
    path, sidecar = _places(url, cache_dir)
    folder, part = path.parent, path.with_name(f"{path.name}.part")
    try:
        if _is_cached(path, sidecar, url, sha256):
            return path
        folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(ATTEMPTS):
            try:
                _download(url, part, max_bytes, progress, timeout_s)
                break
            except _Interrupted as error:
                if attempt + 1 == ATTEMPTS:
                    raise DownloadError(
                        f"{url} could not be downloaded in {ATTEMPTS} attempts ({error}); the next run resumes it."
                    ) from None
                time.sleep(PAUSE_S * 2**attempt)
        found = file_sha256(part)
        if sha256 is not None and found != sha256.lower():
            _discard(part)
            raise DownloadError(f"{url} has the sha256 {found}, not {sha256.lower()}, and was discarded.")
        write_json(sidecar, {"url": url, "size_bytes": part.stat().st_size, "sha256": found})
        os.replace(part, path)
        _discard(part)
    except OSError as error:
        raise DownloadError(f"{url} could not be stored in {folder}: {error.strerror or error}.") from None
    return path


def cached(url: str, cache_dir: str | os.PathLike | None = None) -> Path | None:
    """The file of an address where an earlier download has left it whole; else None.

    Raises:
        DownloadError: a bad address.
    """
    path, sidecar = _places(url, cache_dir)
    return path if _is_cached(path, sidecar, url, None) else None


def _places(url: str, cache_dir: str | os.PathLike | None) -> tuple[Path, Path]:
    """Where the file of an address lies, and what is known of it."""
    parts = _parse(url)
    folder = default_cache() if cache_dir is None else Path(cache_dir)
    last = re.sub(r"[^A-Za-z0-9._-]", "_", parts.path.rpartition("/")[2])[-60:]
    path = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{last}"
    return path, path.with_name(f"{path.name}.json")


def _parse(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or not url.isascii() or re.search(r"[\x00-\x20\x7f]", url):
        raise DownloadError(f"{url!r} must be an http or https address without spaces.")
    return parts


def _is_cached(path: Path, sidecar: Path, url: str, sha256: str | None) -> bool:
    try:
        document = read_json(sidecar)
    except FormatError:
        return False
    if not path.is_file() or document.get("url") != url:
        return False
    found = file_sha256(path)
    return found == document.get("sha256") and (sha256 is None or found == sha256.lower())


def _part_info(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _part_info(part).unlink(missing_ok=True)


# --- one attempt -----------------------------------------------------------------------------------------------------


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects from http to http or https, from https to https, and no others."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            raise DownloadError(f"{req.full_url} redirects to {newurl!r}, which is refused: only http(s) is followed.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str, part: Path, max_bytes: int, progress: Tell | None, timeout_s: float) -> None:
    """Completes `part`, from where it is if the server still has the same file."""
    validator = _validator_of_part(part)
    done = part.stat().st_size if validator else 0
    headers = {"Range": f"bytes={done}-", "If-Range": validator} if done and validator else {}
    with _open(urllib.request.Request(url, headers=headers), part, timeout_s) as response:
        if response.status == 206:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
            if not headers or match is None or int(match[1]) != done or _validator(response) not in (None, validator):
                _discard(part)
                raise _Interrupted("the server sent a different part from the one it was asked for")
            total: int | None = int(match[3])
        else:  # the whole file: a first attempt, no ranges, or a file that changed
            _discard(part)
            done, validator = 0, _validator(response)
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
        _check_size(url, part, total or 0, max_bytes)
        if validator:
            write_json(_part_info(part), {"validator": validator})
        with open(part, "ab") as file:
            while True:
                if progress is not None:
                    progress(done, total)
                chunk = _read(response)
                if not chunk:
                    break
                done += len(chunk)
                _check_size(url, part, done, max_bytes)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    size = part.stat().st_size
    if total is not None and done < total:
        raise _Interrupted(f"the connection ended after {done} of {total} bytes")
    if size != done:
        _discard(part)
        raise DownloadError(f"{url} was written by another program at the same time; run it again.")


def _open(request: urllib.request.Request, part: Path, timeout_s: float) -> Any:
    opener = urllib.request.build_opener(_Redirects)
    url = request.full_url
    try:
        return opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part has all bytes or more; which of the two is not worth asking
            _discard(part)
        if error.code in (*_BUSY, 416):
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from None
        raise DownloadError(f"{url} could not be downloaded: the server answers {error.code} {error.reason}.") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError | ConnectionResetError):
            raise _Interrupted(error.reason) from None
        host = urllib.parse.urlsplit(url).hostname
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise DownloadError(f"{url} could not be downloaded: no connection to {host} ({reason}).") from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None


def _read(response: Any) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (http.client.HTTPException, OSError) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None


def _check_size(url: str, part: Path, n_bytes: int, max_bytes: int) -> None:
    if n_bytes > max_bytes:
        _discard(part)
        raise DownloadError(f"{url} has {n_bytes} bytes or more; at most {max_bytes} are accepted.")


def _validator(response: Any) -> str | None:
    """What names the version of the file: a strong ETag, else the time of its last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _validator_of_part(part: Path) -> str | None:
    try:
        value = read_json(_part_info(part)).get("validator")
    except FormatError:
        return None
    return value if isinstance(value, str) and value.isprintable() and part.is_file() else None
