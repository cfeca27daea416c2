"""Files: transparent decompression, atomic writes, content hashes."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

from doctune.errors import ConfigError, DataError, UserError

COMPRESSIONS = (".gz", ".xz")


def require_file(path: Path) -> Path:
    """The path itself, or a `DataError` that says what is there instead."""
    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"{path}: is a folder, a file was expected")
    near = sorted(p.name for p in path.parent.iterdir())[:8] if path.parent.is_dir() else []
    there = f"; {path.parent} holds {', '.join(near)}" if near else ""
    raise DataError(f"{path}: no such file{there}")


_watch: ContextVar[Callable[[int], None] | None] = ContextVar("watch", default=None)


@contextlib.contextmanager
def watch_reading(tell: Callable[[int], None]) -> Iterator[None]:
    """Have `open_binary` tell how many bytes are read from the disk as they are read, for progress."""
    token = _watch.set(tell)
    try:
        yield
    finally:
        _watch.reset(token)


class _Watched(io.FileIO):
    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer) or 0
        watch = _watch.get()
        if watch is not None:
            watch(count)
        return count


class _Gzip(gzip.GzipFile):
    """Closes the file below it, which the library does only for one that it opened itself."""

    def __init__(self, file: io.BufferedReader[Any]) -> None:
        super().__init__(fileobj=file)
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


class _Xz(lzma.LZMAFile):
    """The same."""

    def __init__(self, file: io.BufferedReader[Any]) -> None:
        super().__init__(file)
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


def open_binary(path: Path) -> IO[bytes]:
    """Open for reading, decompressing `.gz` and `.xz` on the way."""
    file = io.BufferedReader(_Watched(require_file(path)))
    if path.suffix == ".gz":
        return _Gzip(file)  # type: ignore[return-value]
    return _Xz(file) if path.suffix == ".xz" else file


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn damage that shows only while reading, and missing permission, into a `DataError`."""
    try:
        yield
    except (zlib.error, EOFError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or incomplete compressed file ({error})") from None
    except PermissionError:
        raise DataError(f"{path}: no permission to read it") from None


@contextlib.contextmanager
def open_text(path: Path, encoding: str = "utf-8", newline: str | None = None) -> Iterator[io.TextIOWrapper]:
    """Open a (compressed) text file; bytes that do not decode become a `DataError` naming the place."""
    with reading(path), open_binary(path) as binary:
        codec = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
        try:
            text = io.TextIOWrapper(binary, encoding=codec, newline=newline)
        except LookupError:
            raise DataError(f"{path}: unknown encoding {encoding!r}; for instance utf-8, latin-1, gb18030") from None
        try:
            yield text
        except UnicodeDecodeError:
            raise _undecodable(path, codec) from None
        except UnicodeError as error:
            raise DataError(f"{path}: not {codec}: {error}; name the file's encoding with --encoding") from None


def _undecodable(path: Path, encoding: str) -> DataError:
    """Name the line and the byte: a second pass is cheap beside a user who searches for it."""
    number = 0
    with open_binary(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                byte = line[error.start]
                return DataError(
                    f"{path}:{number}: byte 0x{byte:02X} is not {encoding.replace('-sig', '')}; "
                    f"convert the file, or name its encoding (--encoding latin-1, gb18030, ...)"
                )
    return DataError(f"{path}:{number}: not {encoding}; name the file's encoding with --encoding")


def stem(path: Path) -> tuple[str, str]:
    """Name and format suffix without the compression: `a.csv.xz` is `("a", ".csv")`."""
    name = path.name
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    base, dot, suffix = name.rpartition(".")
    return (base, f".{suffix.lower()}") if dot else (name, "")


def disk_is_full(error: Exception) -> bool:
    """Whether that is what an error says; safetensors has an exception of its own for what the system reports."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "(os error 28)" in str(error)


def refuse_input(output: str | Path, *inputs: str | Path) -> None:
    """`ConfigError` where the file to write is one that is read: it would be gone."""
    place = Path(output).expanduser()
    for one in inputs:
        source = Path(one).expanduser()
        if place.exists() and source.exists() and place.samefile(source):
            raise ConfigError(f"output: {output} is the file that is read; give another name")
        if source.is_dir() and source.resolve() in place.resolve().parents:
            raise ConfigError(f"output: {output} is inside {one}, which is read; give another place")


@contextlib.contextmanager
def no_space_is_one_line(path: Path) -> Iterator[None]:
    """Turn a full disk, a forbidden folder or a file in the way into a `UserError` that names the path."""
    try:
        yield
    except Exception as error:
        number = getattr(error, "errno", None)
        if disk_is_full(error):
            raise UserError(f"{path}: no space left on the disk; nothing half-written was kept") from error
        if number in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UserError(f"{path}: no permission to write here; choose another place") from error
        if number == errno.EISDIR:
            raise UserError(f"{path}: there is a folder where a file is to be written; give a file's name") from error
        if number in (errno.ENOTDIR, errno.EEXIST):
            raise UserError(f"{path}: there is a file where a folder is needed; choose another place") from error
        raise


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it when the block ends well, and vanishes when not."""
    with no_space_is_one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well; an older `path` is replaced."""
    with no_space_is_one_line(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):  # safetensors lets only the owner read what it writes
                file.chmod(0o755 if file.is_dir() else 0o644)
            old = _old(path)
            shutil.rmtree(old, ignore_errors=True)  # a killed run may have left it
            if path.exists():
                os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def recover_folder(path: Path) -> None:
    """Bring back the older folder where `atomic_folder` was killed just after it had taken it away."""
    if not path.exists() and _old(path).exists():
        os.replace(_old(path), path)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused, because it is not JSON."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def content_hash(*parts: bytes | str) -> str:
    """A short stable name (16 hex digits of SHA-256) for what the parts hold."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]
