"""The command. A user's mistake is one clear line."""

import os
import sys

from bench.cli import (  # noqa: F401  (each adds its verbs to the app)
    boards,
    downstream,
    measure,
    plans,
    quantize,
    runs,
    submit,
    tasks,
)
from bench.cli.app import app, err, is_rank, speaks
from bench.errors import BenchError, PeerLost
from bench.launch import LAUNCHED, die_with_launcher, leave_group


def main() -> None:
    """Run a verb; a user's mistake is printed without a traceback (exit 2). Typer ends at Ctrl-C with 130."""
    if LAUNCHED in os.environ and is_rank():
        die_with_launcher()
    if not speaks():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (rank 0 prints for all)
    try:
        app()
    except SystemExit:  # as every verb ends that was not refused
        leave_group()
        raise
    except BenchError as error:
        if not (LAUNCHED in os.environ and isinstance(error, PeerLost)):
            err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.status)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has seen enough
    except OSError as error:
        where = error.filename or "the system"
        err.print(f"error: {where}: {error.strerror or error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
