"""Where a study's data sets are: original files in a folder, a TOML file that names them, or the embedded documents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from doctune.config import Settings, Tree, did_you_mean, read_toml
from doctune.errors import ConfigError, UserError
from doctune.readers import sources
from doctune.readers.base import Finder
from doctune.readers.datasets import DATASETS, dataset_reader, known_name
from doctune.readers.hub import PREFIX as HUB
from doctune.readers.pydocs import INSTALLED
from doctune.runs.identity import source_content
from doctune.settings import EMBEDDED_DATASET, DataSettings

DOMAINS = {
    "imdb": "sentiment", "yelp_polarity": "sentiment", "yelp_full": "sentiment", "trec": "question",
    "yahoo_answers": "question", "ag_news": "topic", "dbpedia": "topic",
}  # fmt: skip
"""The paper's domains; Sogou stands alone there, its language being another."""
UNLABELLED = "unsup"


class Entry(Settings):
    """What a TOML file says of one data set: settings of `data`, and texts for further pre-training.

    `corpus` are sources as `doctune corpus` takes them; default: the training texts. `note` stands in the report.
    """

    data: Tree
    corpus: tuple[str, ...] | None = None
    note: str = ""
    domain: str | None = None


@dataclass(frozen=True, slots=True)
class StudyData:
    """One data set of a study: how it is read, its texts for pre-training and those that these must not hold."""

    name: str
    settings: Tree
    corpus: tuple[str, ...]
    tests: tuple[str, ...]
    content: dict[str, str]
    domain: str
    note: str = ""


def find_data(names: Iterable[str], folder: str | None, file: str | None, embedded: bool) -> dict[str, StudyData]:
    """The data sets of these names; `ConfigError` names those that are missing."""
    wanted = list(dict.fromkeys(names))
    if folder is not None and file is not None:
        raise ConfigError("--data and --datasets: both say where the data are; give one of them")
    if embedded and (folder is not None or file is not None):
        flag = "--data" if file is None else "--datasets"
        raise ConfigError(f"{flag}: this scale reads docstrings of installed libraries only; leave it out")
    if embedded:
        return {
            name: _made(name, Entry(data={"dataset": EMBEDDED_DATASET}, domain=DOMAINS.get(name))) for name in wanted
        }
    found = entries(Path(file)) if file is not None else _in_folder(folder, wanted)
    missing = [name for name in wanted if name not in found]
    if missing:
        where = f"--datasets {file}" if file is not None else f"--data {folder}"
        raise ConfigError(
            f"{where}: no {', '.join(missing)}; the study needs {', '.join(wanted)}. Give their files, or leave their "
            f"columns out with --columns"
        )
    return {name: _made(name, found[name]) for name in wanted}


def entries(file: Path) -> dict[str, Entry]:
    """The entries of a TOML file; relative paths in it begin at its folder."""
    found = {}
    for name, tree in read_toml(file).items():
        if not isinstance(tree, dict):
            raise ConfigError(f"{file}: {name}: write [{name}], and below it data = {{ ... }}, found {tree!r}")
        with _about(f"{file}: {name}"):
            entry = Entry.build(tree)
        data = dict(entry.data)
        for key in ("train", "validation", "test", "data"):
            if isinstance(data.get(key), str) and not data[key].startswith(HUB):
                data[key] = _whole(file.parent / Path(data[key]).expanduser())
        corpus = None if entry.corpus is None else tuple(_placed(one, file.parent) for one in entry.corpus)
        found[name] = entry.model_copy(update={"data": data, "corpus": corpus})
    return found


def _placed(source: str, folder: Path) -> str:
    """A source whose path begins at a folder; one of the hub has none."""
    if source.startswith(HUB):
        return source
    name, colon, rest = source.partition(":")
    if colon and known_name(name):
        return f"{name}:{_whole(folder / Path(rest).expanduser())}"
    return _whole(folder / Path(source).expanduser())


def _whole(path: Path) -> str:
    """The whole path: a run's settings must name the same file wherever they are used again."""
    return str(path.resolve())


def _in_folder(folder: str | None, names: list[str]) -> dict[str, Entry]:
    if folder is None:
        raise ConfigError(
            "--data: must be given: a folder with a folder for each data set, by name; or --datasets FILE.toml"
        )
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise ConfigError(f"--data {folder}: no such folder")
    known = [name for name in names if name in DATASETS and (place / name).is_dir()]
    for name in known:
        try:
            sources(DataSettings(dataset=name, data=str(place / name)))
        except UserError as error:
            told = str(error).partition("; name a file with")[0]
            raise ConfigError(f"{name}: {told}; name its files in a TOML file, with --datasets") from None
    return {name: Entry(data={"dataset": name, "data": _whole(place / name)}) for name in known}


@contextlib.contextmanager
def _about(what: str) -> Iterator[None]:
    """Errors inside it say which data set they are about."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"{what}: {error}") from None


def _check_there(source: str, name: str) -> None:
    """A source of a corpus must be there; hours of other runs may come before its own."""
    kind, colon, rest = source.partition(":")
    place = rest if colon and known_name(kind) else source
    there = Path(place).exists() or Path(place.rpartition(":")[0] or place).exists()
    if not there and not source.startswith(HUB):
        raise ConfigError(f"{name}: corpus: {source}: no such file or folder")


def _made(name: str, entry: Entry) -> StudyData:
    for source in entry.corpus or ():
        _check_there(source, name)
    with _about(name):
        settings = DataSettings.build(entry.data)
        found = sources(settings)
    if "test" not in found:
        raise ConfigError(f"{name}: no test documents; name them with test = FILE in the --datasets file")
    known = known_name(settings.dataset) if settings.dataset else None
    tests = tuple(f"{known}:{found[part].path}:{part}" for part in ("validation", "test") if part in found and known)
    corpus = entry.corpus
    if corpus is None:
        corpus = (_training_texts(known, str(found["train"].path), settings),) if known else ()
    domain = entry.domain or DOMAINS.get(name, name)
    content = {split: source_content(source) for split, source in found.items()}
    return StudyData(name, entry.data, corpus, tests, content, domain, entry.note)


def _training_texts(known: str, path: str, settings: DataSettings) -> str:
    """The training texts, and those without labels where the data set's folder has them (IMDb)."""
    reader, folder = dataset_reader(known), settings.data
    if settings.train is None and folder not in (None, INSTALLED) and isinstance(reader, Finder):
        assert folder is not None
        if reader.find(Path(folder), UNLABELLED) is not None and known == "imdb":
            return f"{known}:{folder}:train+{UNLABELLED}"
    return f"{known}:{path}:train"


def check_columns(wanted: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The columns that were asked for; `ConfigError` for one that the study does not have."""
    names, chosen = list(known), list(dict.fromkeys(wanted))
    for name in chosen:
        if name not in names:
            raise ConfigError(f"--columns: no column {name!r}{did_you_mean(name, names)}")
    return tuple(chosen)
