"""The command line. Imports stand inside functions here, because `--help` must not wait for torch."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from doctune.cli import studying, tasks, training, using
from doctune.cli.flags import Arguments
from doctune.errors import ConfigError, UserError
from doctune.version import __version__

# What torchrun may start; all others are one process.
SEVERAL_PROCESSES = ("finetune", "multitask", "pretrain")
SECONDS_TO_SPEAK = 2
COMMANDS = {
    "corpus": (training.corpus, "make a corpus for further pre-training from documents"),
    "pretrain": (training.pretrain, "further pre-train an encoder on a corpus, or pre-train a new one from scratch"),
    "finetune": (training.finetune, "fine-tune an encoder on labelled documents, test it, and save the classifier"),
    "multitask": (tasks.multitask, "fine-tune an encoder on several data sets at once, then on each alone"),
    "compare": (training.compare, "fine-tune with and without further pre-trained encoders: did it help?"),
    "study": (studying.study, "repeat a table or figure of the paper"),
    "curve": (studying.curve, "draw error over the number of labels, with and without further pre-training"),
    "evaluate": (using.evaluate, "measure a model on labelled documents"),
    "predict": (using.predict, "label new documents with a model"),
    "probe": (using.probe, "which layer and pooling to fine-tune: linear probes on all of them, from one pass"),
    "features": (using.features, "write the vectors that an encoder has for tokens or documents"),
    "convert": (training.convert, "convert a TensorFlow 1 checkpoint of BERT into a Hugging Face folder, or back"),
    "datasets": (using.datasets, "list the known data sets and the files they are read from"),
    "demo": (using.demo, "show the main job on docstrings of the installed Python packages"),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 if all went well, 2 after a one-line error, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = Arguments()
    processes, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    try:
        args = parse(arguments)
        if processes > 1 and args.command not in SEVERAL_PROCESSES:
            raise ConfigError(f"doctune {args.command} runs in one process; start it without torchrun")
        with contextlib.ExitStack() as stack:
            if processes > 1 and rank > 0:
                # What the first process says is for all.
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            args.run(args)
        sys.stdout.flush()
    except UserError as error:
        if processes > 1 and os.environ.get("LOCAL_RANK", "0") != "0":
            # The first process of this machine has the same error; torchrun stops it as soon as another one ends.
            time.sleep(SECONDS_TO_SPEAK)
            sys.exit(2)
        print(f"doctune: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        goes_on = getattr(args, "interrupted", "a run goes on with --resume")
        print(f"doctune: interrupted; {goes_on}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


class Parser(argparse.ArgumentParser):
    """argparse, with our errors: one line, and no usage before it."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help tells what there is")


def parse(arguments: Sequence[str]) -> Arguments:
    """The arguments; `ConfigError` for one that there is not, with the nearest that there is."""
    root = parser(arguments)
    args, unknown = root.parse_known_args(arguments)
    if unknown:
        from doctune.config import did_you_mean

        word = unknown[0].partition("=")[0]
        flags = [flag for flag in vars(args).get("flags", ()) if flag.startswith("--")]
        hint = did_you_mean(word, flags) if word.startswith("--") else ""
        if "did you mean" not in hint:
            hint = f"; doctune {args.command} --help tells what there is"
        raise ConfigError(f"{word}: no such argument{hint}")
    return args


def parser(arguments: Sequence[str]) -> Parser:
    """The parser; only the command in `arguments` gets its flags, as the others are not asked for."""
    root = Parser(
        prog="doctune",
        description="Further pre-train BERT-family encoders, and fine-tune them as classifiers, on your own documents.",
        epilog="doctune COMMAND --help tells a command's flags, with examples.",
    )
    root.add_argument("--version", action="version", version=f"doctune {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    asked = next((a for a in arguments if not a.startswith("-")), "")
    for name, (add, line) in COMMANDS.items():
        command = commands.add_parser(
            name, help=line, description=line, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == asked:
            add(command)
            command.set_defaults(command=name, flags=tuple(command._option_string_actions))
    return root
