"""The command line, made from the list of commands. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any, NoReturn

from doctune.cli.flags import Arguments, add_flags, settings_tree
from doctune.commands import (
    compare_command,
    convert,
    corpus,
    datasets,
    demo,
    evaluate_command,
    features,
    finetune_command,
    multitask_command,
    predict_command,
    pretrain_command,
    probe,
)
from doctune.commands.command import INTERRUPTED, Call, Command
from doctune.errors import ConfigError, UserError
from doctune.studies.commands import CURVE, STUDY
from doctune.version import __version__

SECONDS_TO_SPEAK = 2
COMMANDS: tuple[Command, ...] = (
    corpus.COMMAND, pretrain_command.COMMAND, finetune_command.COMMAND, multitask_command.COMMAND,
    compare_command.COMMAND, STUDY, CURVE, evaluate_command.COMMAND, predict_command.COMMAND, probe.COMMAND,
    features.COMMAND, convert.COMMAND, datasets.COMMAND, demo.COMMAND,
)  # fmt: skip


def main(argv: Sequence[str] | None = None, commands: Sequence[Command] = COMMANDS) -> NoReturn:
    """Run the command line and exit: 0 if all went well, 2 after a one-line error, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    command: Command | None = None
    processes, rank = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", "1"), ("RANK", "0")))
    try:
        command, args = parse(arguments, commands)
        if processes > 1 and not command.several_processes:
            raise ConfigError(f"doctune {command.name} runs in one process; start it without torchrun")
        with contextlib.ExitStack() as stack:
            if processes > 1 and rank > 0:
                # What the first process says is for all.
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            call = Call(args, settings_tree(command, args), shlex.join(["doctune", *arguments]))
            if command.dry_run is not None and args.dry_run:
                print(command.dry_run(call))
            else:
                command.run(call)
        sys.stdout.flush()
    except UserError as error:
        if processes > 1 and os.environ.get("LOCAL_RANK", "0") != "0":
            # The first process of this machine has the same error; torchrun stops it as soon as another one ends.
            time.sleep(SECONDS_TO_SPEAK)
            sys.exit(2)
        print(f"doctune: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"doctune: interrupted; {INTERRUPTED if command is None else command.interrupted}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


class Parser(argparse.ArgumentParser):
    """argparse, with our errors: one line, and no usage before it."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's, in words of ours."""
        if action.choices is not None and value not in action.choices:
            words = [str(choice) for choice in action.choices]
            if isinstance(action, argparse._SubParsersAction):
                from doctune.config.words import did_you_mean

                raise ConfigError(f"{value}: no such command{did_you_mean(value, words)}")
            one_of = f"{', '.join(words[:-1])} or {words[-1]}"
            raise argparse.ArgumentError(action, f"give {one_of}, found {value!r}")

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help tells what there is")


def parse(arguments: Sequence[str], commands: Sequence[Command] = COMMANDS) -> tuple[Command, Arguments]:
    """The command and its arguments; `ConfigError` for one that there is not, with the nearest that there is."""
    asked = next((argument for argument in arguments if not argument.startswith("-")), "")
    root = Parser(
        prog="doctune",
        description="Further pre-train BERT-family encoders, and fine-tune them as classifiers, on your own documents.",
        epilog="doctune COMMAND --help tells a command's flags, with examples.",
    )
    root.add_argument("--version", action="version", version=f"doctune {__version__}")
    parsers = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in commands:
        own = parsers.add_parser(
            command.name, help=command.line, description=command.line, usage=command.usage, epilog=command.examples,
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
        )  # fmt: skip
        if command.name == asked:  # the others are not asked for their flags
            add_flags(own, command)
    args, unknown = root.parse_known_args(arguments)
    command = next(one for one in commands if one.name == asked)
    if unknown:
        from doctune.config import did_you_mean

        word = unknown[0].partition("=")[0]
        flags = [flag for flag in parsers.choices[asked]._option_string_actions if flag.startswith("--")]
        hint = did_you_mean(word, flags) if word.startswith("--") else ""
        if "did you mean" not in hint:
            hint = f"; doctune {asked} --help tells what there is"
        raise ConfigError(f"{word}: no such argument{hint}")
    return command, args
