"""`recworld COMMAND`: finds the command, and turns whatever goes wrong into one line and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import recworld
from recworld.errors import RecworldError, did_you_mean

COMMANDS = {
    "train": ("recworld.cli.train:train", "train a policy on simulated users, compare it with baselines"),
    "evaluate": ("recworld.cli.evaluate:evaluate", "compare trained runs and baselines in one table"),
    "recommend": ("recworld.cli.recommend:recommend", "say what a trained run shows to a user"),
    "fit": ("recworld.cli.fit:fit", "fit a world of simulated users to a log and keep it as a folder"),
    "fit-encoder": ("recworld.cli.fit_encoder:fit_encoder", "fine-tune the language model on a log"),
    "compress": (
        "recworld.cli.compress:compress",
        "make the language model smaller, and measure what that costs",
    ),
}


FLAGS_READ = (
    "A flag may leave out its group where the rest says which is meant: --horizon 10. --x_y is --x-y.",
    "A list takes several values: --env.members 0 1. A switch takes none: --repeats, --no-repeats.",
)


class Terminated(BaseException):
    """The process was told to end (SIGTERM)."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 2 wrong input, 1 a fault of ours, 130 or 143 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_overview())
        sys.exit(0 if given else 2)
    if given[0] in ("--version", "-V"):
        print(f"recworld {recworld.__version__}")
        sys.exit(0)
    if given[0] not in COMMANDS:
        _stop(f"Unknown command {given[0]!r}. {did_you_mean(given[0], COMMANDS)}")
    run_command(given[0], given[1:], prog=f"recworld {given[0]}")


def run_command(name: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> NoReturn:
    """Run one command and exit; the scripts at the root of the repository call this.

    Args:
        name: one of `COMMANDS`.
        arguments: its words; those of the process where not given.
        prog: how the command was typed, for the help.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    prog = prog or os.path.basename(sys.argv[0])
    debug = os.environ.get("RECWORLD_DEBUG", "") not in ("", "0")
    # Threads that wait for each other must not spin: on a busy machine that costs ten times the time. Read by the
    # OpenMP of torch when it is loaded, so before everything else.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        module, _, function = COMMANDS[name][0].partition(":")
        command: Callable[[list[str], str], None] = getattr(importlib.import_module(module), function)
        command(words, prog)
        sys.stdout.flush()
    except RecworldError as error:
        if debug:
            raise
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("Interrupted." + _how_to_go_on(), code=130)
    except Terminated:
        _stop("Told to end." + _how_to_go_on(), code=143)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except MemoryError:
        _stop(
            "The memory is full: fewer users side by side (agent.num_envs) or a smaller world need less.",
            code=1,
        )
    except Exception as error:
        if debug:
            raise
        text = " ".join(str(error).split())[:300]
        _stop(f"{type(error).__name__}: {text} (set RECWORLD_DEBUG=1 for the traceback)", code=1)
    sys.exit(0)


_RUN: list[str] = []


def running(run: str) -> None:
    """Remember the run folder at work, so that an interruption can say how to go on with it."""
    _RUN[:] = [run]


def _how_to_go_on() -> str:
    return f" Go on with: --resume {_RUN[0]}" if _RUN else " The same command goes on with what is cached."


def _terminate(number: int, frame: Any) -> NoReturn:
    raise Terminated


def _stop(text: str, code: int = 2) -> NoReturn:
    sys.stdout.flush()
    print("error: " + " ".join(text.split()), file=sys.stderr, flush=True)
    sys.exit(code)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: recworld COMMAND [OPTIONS]",
            "",
            "Simulated users learnt from logs, and ranking policies trained in them.",
            "",
            *lines,
            "",
            "recworld COMMAND --help lists the options of a command; recworld --version the version.",
        ]
    )


def wants_help(words: Sequence[str]) -> bool:
    """Return whether help is asked for."""
    return any(word in ("-h", "--help") for word in words)


def show_help(model: type[Any], default: Any, prog: str, description: str) -> None:
    """Print the options of a settings class, grouped, with their defaults.

    Args:
        model: the settings class.
        default: an instance whose values are shown as defaults.
        prog: how the command was typed.
        description: what it does.
    """
    import tyro

    with contextlib.suppress(SystemExit):
        tyro.cli(model, default=default, args=["--help"], prog=prog, description=description)
    print("\n".join(FLAGS_READ))


def use_threads(number: int) -> None:
    """Let torch compute on so many threads."""
    import torch

    torch.set_num_threads(number)
