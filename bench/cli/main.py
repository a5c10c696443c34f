"""The command. A user's mistake is one clear line."""

import os
import sys

from bench.cli import boards, runs, tasks  # noqa: F401  (each adds its verbs to the app)
from bench.cli.app import app, err
from bench.errors import BenchError


def main() -> None:
    """Run a verb; a user's mistake is printed without a traceback (exit 2). Typer ends at Ctrl-C with 130."""
    try:
        app()
    except BenchError as error:
        err.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read our output has seen enough
    except OSError as error:
        err.print(f"error: {error.filename or 'the system'}: {error.strerror or error}", markup=False, highlight=False)
        sys.exit(2)
