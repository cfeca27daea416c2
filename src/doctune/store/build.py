"""From examples to a shard: tokenise in chunks, leave empty documents out and count them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import pyarrow as pa

from doctune.errors import DataError
from doctune.examples import Example
from doctune.files import atomic_path, no_space_is_one_line
from doctune.progress import Progress
from doctune.store.shards import ROWS_PER_CHUNK, SCHEMA, Shard, write_shard
from doctune.text.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class Built:
    """A shard, and how many documents were left out because nothing could be read in them."""

    shard: Shard
    left_out_empty: int


class NothingToReadError(DataError):
    """No document has any token."""


def build_shard(
    examples: Iterable[Example], tokenizer: TextTokenizer, folder: Path, name: str, show_progress: bool = True
) -> Built:
    """Tokenise the examples into `folder/NAME-HASH.arrow`, in constant memory.

    The hash covers the documents and the tokenizer. Raises `NothingToReadError` if no document is left.
    """
    digest = hashlib.sha256(tokenizer.hash.encode())
    counts = {"seen": 0, "empty": 0}
    # Named by nobody else: several processes may fill one folder.
    path = folder / f"{name}-{uuid.uuid4().hex}.arrow"
    progress = Progress(None, f"tokenise {name}", "documents") if show_progress else None
    with progress or contextlib.nullcontext():
        write_shard(path, _chunks(examples, tokenizer, digest, counts, progress))
    if counts["seen"] == counts["empty"]:
        path.unlink()
        what = "every document is empty" if counts["seen"] else "there is no document"
        raise NothingToReadError(f"{name}: {what}; check the file and the text column")
    hashed = path.with_name(f"{name}-{digest.hexdigest()[:16]}.arrow")
    path.replace(hashed)
    return Built(Shard(hashed), counts["empty"])


def cached_shard(examples: Iterable[Example], tokenizer: TextTokenizer, cache: Path, name: str) -> Built:
    """As `build_shard`, but documents that an earlier run tokenised into `cache` are not tokenised again.

    The examples are gone through twice: reading is cheap beside tokenising.
    """
    examples = [without_lone_surrogates(example) for example in examples]
    digest = hashlib.sha256(tokenizer.hash.encode())
    for example in examples:
        _update(digest, example)
    note = cache / f"{name}-{digest.hexdigest()[:16]}.empty"
    path = note.with_suffix(".arrow")
    found = _cached(path, note)
    if found is not None:
        return found
    lock = filelock.FileLock(note.with_suffix(".lock"))
    with no_space_is_one_line(cache):
        cache.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:  # of several processes one tokenises
        found = _cached(path, note)
        if found is not None:
            return found
        built = build_shard(examples, tokenizer, cache, name)
        with atomic_path(note) as temporary:
            temporary.write_text(str(built.left_out_empty))
    finally:
        lock.release()
    return built


def _cached(path: Path, note: Path) -> Built | None:
    """What an earlier run made, whole."""
    return Built(Shard(path), int(note.read_text())) if path.is_file() and note.is_file() else None


def _chunks(
    examples: Iterable[Example],
    tokenizer: TextTokenizer,
    digest: hashlib._Hash,
    counts: dict[str, int],
    progress: Progress | None,
) -> Iterator[pa.RecordBatch]:
    waiting: list[tuple[Example, list[int], list[int]]] = []
    source = iter(examples)
    while chunk := list(itertools.islice(source, ROWS_PER_CHUNK)):
        chunk = [without_lone_surrogates(example) for example in chunk]
        for example in chunk:
            _update(digest, example)
        first = tokenizer.encode([example.text for example in chunk])
        second = tokenizer.encode([example.text_pair or "" for example in chunk])
        counts["seen"] += len(chunk)
        for example, ids, pair in zip(chunk, first, second, strict=True):
            if len(ids) + len(pair) == 0:
                counts["empty"] += 1
            else:
                waiting.append((example, ids.tolist(), pair.tolist()))
        while len(waiting) >= ROWS_PER_CHUNK:
            yield _record_batch(waiting[:ROWS_PER_CHUNK])
            del waiting[:ROWS_PER_CHUNK]
        if progress is not None:
            progress.advance(len(chunk))
    if waiting:
        yield _record_batch(waiting)


def _record_batch(rows: list[tuple[Example, list[int], list[int]]]) -> pa.RecordBatch:
    examples = [row[0] for row in rows]
    columns = [
        [e.id for e in examples],
        [e.text if e.text_pair is None else f"{e.text}\n{e.text_pair}" for e in examples],
        [e.label for e in examples],
        [e.group for e in examples],
        [row[1] for row in rows],
        [row[2] for row in rows],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)


def without_lone_surrogates(example: Example) -> Example:
    """Half an emoji, as a JSON escape can leave it, is not text in any encoding: it becomes U+FFFD."""
    texts = [example.text, example.text_pair or ""]
    try:
        "".join(texts).encode()
        return example
    except UnicodeEncodeError:
        text, pair = (t.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for t in texts)
        return Example(example.id, text, example.label, pair or None, example.group)


def _update(digest: hashlib._Hash, example: Example) -> None:
    for part in (example.id, example.text, example.text_pair, example.label, example.group):
        data = b"\xff" if part is None else part.encode("utf-8", "replace")
        digest.update(len(data).to_bytes(8, "little") + data)
