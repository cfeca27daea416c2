"""The embedded data set: which installed Python library does a docstring come from?

It needs no network and no data folder. Source files are parsed, never imported. The library's own name is masked, and
the group of an example is its module, so that a split by group keeps a module on one side.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers.base import no_such_split

INSTALLED = "installed"
"""The path that stands for the libraries of the running Python; a folder with libraries can be read instead."""

PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "sympy",
    "networkx",
    "huggingface_hub",
    "pydantic",
    "setuptools",
    "jinja2",
    "pip",
)
"""Libraries that doctune's own dependencies bring; those with the most docstrings first."""

_ALSO_CALLED = {
    "numpy": ("np",),
    "networkx": ("nx",),
    "huggingface_hub": ("huggingface", "hugging face hub", "hugging face", "hf"),
    "transformers": ("huggingface", "hugging face"),
}
_SKIPPED_FOLDERS = {"test", "tests", "testing", "_vendor", "vendor", "third_party"}
_LICENCE = re.compile(r"copyright|licen[sc]ed? (?:under|is|agreement)|all rights reserved|spdx-", re.IGNORECASE)
_TEST_SHARE = 0.2
_LARGEST_FILE = 50_000  # bytes; parsing a larger one takes longer than its few docstrings are worth


@dataclass(frozen=True)
class PyDocsReader:
    """Picks docstrings of the first `num_libraries` of `packages` that are installed, the same ones every time.

    A hash of the module says whether it is train or test, and in which order modules are read, until a library has
    `train_per_library` and `test_per_library` docstrings; no module gives more than `per_module`.
    """

    packages: tuple[str, ...] = PACKAGES
    num_libraries: int = 6
    train_per_library: int = 400
    test_per_library: int = 100
    per_module: int = 12
    min_words: int = 8
    labels: tuple[str, ...] | None = None

    def find(self, folder: Path, split: str) -> Path | None:
        """The folder itself, for both splits."""
        return folder if split in ("train", "test") else None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield the docstrings of `split`, library by library; fewer than two libraries are a `DataError`."""
        if split not in ("train", "test"):
            raise no_such_split(path, split, ("train", "test"))
        yield from (example for side, example in _picked(self, path) if side == split)

    def libraries(self, path: Path) -> dict[str, Path]:
        """The libraries that are used, with their folders."""
        folders: dict[str, Path] = {}
        for package in self.packages:
            folder = _installed(package) if str(path) == INSTALLED else path / package
            if folder is not None and folder.is_dir() and len(folders) < self.num_libraries:
                folders[package] = folder
        if len(folders) < 2:
            raise DataError(
                f"{path}: found {len(folders)} of the libraries {', '.join(self.packages)}, at least 2 are needed; "
                f"the path must be {INSTALLED!r} or a folder such as site-packages"
            )
        return folders


@functools.lru_cache(maxsize=1)
def _picked(reader: PyDocsReader, path: Path) -> tuple[tuple[str, Example], ...]:
    """Both sides at once, kept for the other side's turn: a docstring must not be on both."""
    seen: set[str] = set()
    libraries = reader.libraries(path)
    return tuple(pick for package, folder in libraries.items() for pick in _pick(reader, package, folder, seen))


def _pick(reader: PyDocsReader, package: str, folder: Path, seen: set[str]) -> Iterator[tuple[str, Example]]:
    """Yield (side, example) of one library until both sides are full."""
    room = {"train": reader.train_per_library, "test": reader.test_per_library}
    for module, file in _modules(package, folder):
        side = "test" if _share(module) < _TEST_SHARE else "train"
        left = min(reader.per_module, room[side])
        for line, docstring in _docstrings(file) if left else ():
            text = mask(without_licence(docstring), package)
            words = text.split()
            key = " ".join(words)
            if len(words) < reader.min_words or key in seen:
                continue
            seen.add(key)
            room[side] -= 1
            left -= 1
            yield side, Example(f"{module}:{line}", text, package, group=module)
            if left == 0:
                break
        if not any(room.values()):
            return


def mask(text: str, package: str) -> str:
    """Put "library" for the package's names: in any case, in dotted names, and inside longer words for long names."""
    names = {package, package.replace("_", "-"), package.replace("_", " "), *_ALSO_CALLED.get(package, ())}
    inside = _any_of(name for name in names if len(name) > 4)  # "PyTorch", but not "pipeline" for pip
    whole = _any_of(names)
    pattern = rf"(?<![A-Za-z0-9])(?:{whole})(?![A-Za-z0-9])" + (rf"|\w*(?:{inside})\w*" if inside else "")
    return re.sub(pattern, "library", text, flags=re.IGNORECASE)


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def without_licence(text: str) -> str:
    """Drop the paragraphs that speak of copyright or licences."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(paragraph for paragraph in paragraphs if not _LICENCE.search(paragraph)).strip()


def _installed(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)  # of a top-level name: imports nothing
    except (ImportError, ValueError):
        return None
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _modules(package: str, folder: Path) -> list[tuple[str, Path]]:
    """Dotted names and files, in the order of a hash."""
    found = []
    for file in folder.rglob("*.py"):
        parts = file.relative_to(folder).with_suffix("").parts
        if not _SKIPPED_FOLDERS.intersection(parts[:-1]) and file.stat().st_size < _LARGEST_FILE:
            found.append((".".join((package, *parts)).removesuffix(".__init__"), file))
    return sorted(found, key=lambda item: (_share(item[0], "order"), item[0]))


def _docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, docstring) of the module, its classes and functions; a file that does not parse has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's code
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return
    nodes: list[ast.AST] = [tree]
    while nodes:  # statements only: ast.walk would visit every expression
        node = nodes.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node.body[0].lineno, docstring.encode(errors="replace").decode()  # no lone surrogates
            nodes.extend(reversed(node.body))


def _share(name: str, salt: str = "side") -> float:
    """A number from 0 to 1 that depends on the name alone."""
    digest = hashlib.blake2b(f"{salt}:{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
