"""Tokenising without torch: an encoder's own tokenizer, read by the `tokenizers` library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import BertWordPieceTokenizer, Tokenizer
from tokenizers.processors import TemplateProcessing

from doctune.errors import CheckpointError
from doctune.files import content_hash, write_json, write_text

Ids = npt.NDArray[np.int32]
TEXTS_PER_CALL = 512


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens around a text and around a text pair, as the encoder was trained with them.

    A text is `prefix + text + suffix`, a pair `prefix + first + middle + second + suffix`; the second text and what
    follows it have `second_type` as token type.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    second_type: int

    def special_tokens(self, pair: bool) -> int:
        """How many places the special tokens take."""
        return len(self.prefix) + len(self.suffix) + (len(self.middle) if pair else 0)

    def assemble(self, first: Ids, second: Ids | None = None) -> tuple[Ids, Ids]:
        """`input_ids` and `token_type_ids` of one sequence, special tokens included."""
        around = [np.asarray(part, np.int32) for part in (self.prefix, self.middle, self.suffix)]
        if second is None or len(second) == 0:
            ids = np.concatenate([around[0], first, around[2]])
            return ids, np.zeros(len(ids), np.int32)
        ids = np.concatenate([around[0], first, around[1], second, around[2]])
        types = np.zeros(len(ids), np.int32)
        types[len(ids) - len(second) - len(around[2]) :] = self.second_type
        return ids, types


class TextTokenizer:
    """Text to token ids, as the encoder in a folder was trained with; no special tokens, no truncation, no padding."""

    def __init__(self, tokenizer: Tokenizer, config: dict[str, Any]) -> None:
        # A published tokenizer.json may truncate or pad to a fixed length (MiniLM's pads to 128).
        tokenizer.no_truncation()
        tokenizer.no_padding()
        # "[SEP]" written in a document is text of the document, not a special token.
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.config = config
        self.template = _template(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> TextTokenizer:
        """The tokenizer of an encoder's folder, from tokenizer.json, vocab.txt, or what transformers can convert.

        Raises `CheckpointError` when the folder has none.
        """
        config = _read_json(folder / "tokenizer_config.json")
        if (folder / "tokenizer.json").is_file():
            try:
                return cls(Tokenizer.from_file(str(folder / "tokenizer.json")), config)
            except Exception as error:  # the library raises bare Exception
                raise CheckpointError(f"{folder / 'tokenizer.json'}: not a tokenizer: {error}") from None
        if (folder / "vocab.txt").is_file():
            return cls(_word_piece(folder / "vocab.txt", config), config)
        return cls(_converted(folder), config)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text."""
        encoded: list[Ids] = []
        for start in range(0, len(texts), TEXTS_PER_CALL):
            part = list(texts[start : start + TEXTS_PER_CALL])
            encodings = self.tokenizer.encode_batch_fast(part, add_special_tokens=False)
            encoded += [np.array(encoding.ids, np.int32) for encoding in encodings]
        return encoded

    def decode(self, ids: Ids) -> str:
        """The text of some tokens, as far as they tell: capitals and spaces may be lost."""
        return str(self.tokenizer.decode(ids.tolist(), skip_special_tokens=False))

    @property
    def size(self) -> int:
        """One more than the highest token id."""
        return max(self.tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def mask_id(self) -> int:
        """The id of the mask token; raises `CheckpointError` for a tokenizer that has none."""
        named = self.config.get("mask_token")
        named = named.get("content") if isinstance(named, dict) else named
        for token in (named, "[MASK]", "<mask>"):
            found = self.tokenizer.token_to_id(token) if isinstance(token, str) else None
            if found is not None:
                return int(found)
        raise CheckpointError("the tokenizer has no mask token ([MASK] or <mask>), so nothing can be masked with it")

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The token of each id; raises `KeyError` for an id that the vocabulary lacks."""
        piece_of = {number: piece for piece, number in self.tokenizer.get_vocab(with_added_tokens=True).items()}
        return [piece_of[number] for number in ids]

    def word_pieces(self) -> list[str] | None:
        """The lines of vocab.txt for a WordPiece tokenizer whose ids have no gap; None for every other kind."""
        if type(self.tokenizer.model).__name__ != "WordPiece":
            return None
        pieces = sorted((number, piece) for piece, number in self.tokenizer.get_vocab(with_added_tokens=True).items())
        return [piece for _, piece in pieces] if [n for n, _ in pieces] == list(range(len(pieces))) else None

    @property
    def hash(self) -> str:
        """Changes when any text could be tokenised differently."""
        return content_hash(self.tokenizer.to_str())

    def save(self, folder: Path) -> None:
        """Write the files from which doctune, transformers and `tokenizers` read the same tokenizer."""
        write_text(folder / "tokenizer.json", self.tokenizer.to_str(pretty=True))
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **self.config}
        write_json(folder / "tokenizer_config.json", config)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    return value if isinstance(value, dict) else {}


def _word_piece(vocab: Path, config: dict[str, Any]) -> Tokenizer:
    """BERT's tokenizer from its vocabulary, which tells whether to lower-case where the folder does not."""
    try:
        lines = vocab.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{vocab}: not UTF-8: {error}") from None
    tokens = {line.rstrip("\r"): number for number, line in enumerate(lines)}
    missing = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in tokens]
    if missing:
        raise CheckpointError(f"{vocab}: no {', '.join(missing)}; this is not a BERT vocabulary")
    lower = bool(config.get("do_lower_case", not _is_cased(tokens)))
    made = BertWordPieceTokenizer(
        vocab=tokens, lowercase=lower, strip_accents=config.get("strip_accents"),
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
    )  # fmt: skip
    tokenizer: Tokenizer = made._tokenizer
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokens["[CLS]"]), ("[SEP]", tokens["[SEP]"])],
    )  # fmt: skip
    config.setdefault("tokenizer_class", "BertTokenizer")
    config.setdefault("do_lower_case", lower)
    return tokenizer


def _is_cased(tokens: Iterable[str]) -> bool:
    """Whether a vocabulary was made from cased text: more than one in twenty of its words has a capital letter."""
    words = [token for token in tokens if token[:1].isalpha()]
    return 20 * sum(word != word.lower() for word in words) > len(words)


def _converted(folder: Path) -> Tokenizer:
    """What transformers makes of the older formats (vocab.json and merges.txt, sentencepiece models)."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{folder}: no tokenizer.json or vocab.txt, and transformers finds no tokenizer ({reason})"
        ) from None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise CheckpointError(f"{folder}: no tokenizer.json, and its tokenizer cannot be converted to one")
    return backend


def _template(tokenizer: Tokenizer) -> Template:
    """Learn the special tokens from what the tokenizer itself does with a text and with a pair."""
    probe = next((t for t in ("a", "the", "1", ".") if tokenizer.encode(t, add_special_tokens=False).ids), "a")
    plain = tokenizer.encode(probe, add_special_tokens=False).ids
    single = tokenizer.encode(probe).ids
    pair = tokenizer.encode(probe, probe)
    width = len(plain)
    start = _find(single, plain, 0)
    second = _find(pair.ids, plain, start + width)
    return Template(
        prefix=tuple(single[:start]),
        middle=tuple(pair.ids[start + width : second]),
        suffix=tuple(single[start + width :]),
        second_type=pair.type_ids[second],
    )


def _find(ids: list[int], part: list[int], start: int) -> int:
    for place in range(start, len(ids) - len(part) + 1):
        if ids[place : place + len(part)] == part:
            return place
    raise CheckpointError("the tokenizer's special tokens could not be understood")
