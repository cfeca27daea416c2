"""Atomic writes, compressed reading, hashes."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from doctune.errors import ConfigError, DataError, UserError
from doctune.files import (
    atomic_folder,
    atomic_path,
    content_hash,
    no_space_is_one_line,
    open_text,
    refuse_input,
    require_file,
    stem,
    write_json,
    write_text,
)


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            assert path.read_text() == "old"
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        interrupted()
    assert tree(tmp_path) == {"a/file.txt": "old"}
    write_text(path, "new")
    assert tree(tmp_path) == {"a/file.txt": "new"}
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert tree(tmp_path) == {}


def test_json_is_readable_text(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"label": "žluť"})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n  "label": "žluť"\n}\n'


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_text("old")
        (temporary / "surplus").write_text("old")

    def interrupted() -> None:
        with atomic_folder(folder) as temporary:
            (temporary / "weights").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert tree(tmp_path) == {"model/weights": "old", "model/surplus": "old"}
    with atomic_folder(folder) as temporary:
        (temporary / "weights").write_text("new")
    assert tree(tmp_path) == {"model/weights": "new"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_can_be_replaced_after_a_crash(tmp_path: Path) -> None:
    for place in ("model", ".model.old"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "weights").write_text("old")
    with atomic_folder(tmp_path / "model") as temporary:
        (temporary / "weights").write_text("new")
    assert (tmp_path / "model" / "weights").read_text() == "new"


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "no space left on the disk"), (errno.EROFS, "no permission to write here")]
)
def test_a_full_or_forbidden_disk_is_one_line(tmp_path: Path, code: int, message: str) -> None:
    with pytest.raises(UserError, match=rf"run: {message}"), no_space_is_one_line(tmp_path / "run"):
        raise OSError(code, os.strerror(code))
    with pytest.raises(OSError, match="Input/output error"), no_space_is_one_line(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed_text(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack("\ufefferste Zeile: ä\nzweite\n".encode()))
    with open_text(path) as stream:
        assert stream.read() == "erste Zeile: ä\nzweite\n"
    path.write_bytes(pack("ä\n".encode("latin-1")))
    with open_text(path, "latin-1") as stream:
        assert stream.read() == "ä\n"


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_undecodable_bytes_name_line_and_byte(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack("good ä\n".encode() * 5000 + b"caf\xe9\n" + b"\xff\n"))
    with (
        pytest.raises(DataError, match=r"a\.txt.*:5001: byte 0xE9 is not utf-8; .*--encoding"),
        open_text(path) as stream,
    ):
        stream.read()


@pytest.mark.parametrize("name", ["a.gz", "a.xz"])
def test_damaged_compression(tmp_path: Path, name: str) -> None:
    pack = gzip.compress if name.endswith("gz") else lzma.compress
    for content in (pack(os.urandom(50_000))[:-100], b"not compressed at all"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="damaged or incomplete"), open_text(tmp_path / name, "latin-1") as stream:
            stream.read()


def test_what_is_there_instead_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("")
    assert require_file(tmp_path / "b.csv") == tmp_path / "b.csv"
    with pytest.raises(DataError, match=r"a\.csv: no such file; .* holds b\.csv"):
        require_file(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"gone/a\.csv: no such file$"):
        require_file(tmp_path / "gone" / "a.csv")
    with pytest.raises(DataError, match="is a folder, a file was expected"):
        require_file(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", ("a", ".csv")),
        ("a.b.CSV.xz", ("a.b", ".csv")),
        ("a.jsonl.gz", ("a", ".jsonl")),
        ("plain", ("plain", "")),
    ],
)
def test_stems(name: str, expected: tuple[str, str]) -> None:
    assert stem(Path("folder") / name) == expected


def test_the_hash_is_of_content_and_its_parts() -> None:
    assert content_hash("a", "b") == content_hash(b"a", "b")
    different = [
        content_hash(*p) for p in (("a", "b"), ("ab",), ("a", "", "b"), ("b", "a"), (), ("\ud800",), ("\ud801",))
    ]
    assert len(set(different)) == len(different)
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in different)
    assert content_hash("doctune") == content_hash("doctune")


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    source, link = tmp_path / "texts.csv", tmp_path / "link.csv"
    source.write_text("text\n")
    link.symlink_to(source)
    for output in (source, link):
        with pytest.raises(ConfigError, match="is the file that is read"):
            refuse_input(output, source)
    with pytest.raises(ConfigError, match="is inside"):
        refuse_input(tmp_path / "model" / "config.json", tmp_path)
    refuse_input(tmp_path / "other.csv", source)
    refuse_input("other.csv", "-")


def test_a_folder_in_the_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "figures.json").mkdir()
    with pytest.raises(UserError, match="a folder where a file is to be written"):
        write_json(tmp_path / "figures.json", {})
