"""What a hyperparameter may be: its type is the one the entry's dataclass says, its domain goes by its name."""

import ast
import re
import sys
from collections.abc import Callable

TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "float": ("a number", (float, int)),
    "int": ("a whole number", (int,)),
    "bool": ("true or false", (bool,)),
    "str": ("text", (str,)),
}
# The field's standard names, alone or as words of a longer one ("rest_lr_factor", "newton_schulz_steps").
DOMAINS: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
    (r"(.*_)?(beta\d*|momentum)", "a number from 0 up to but not 1", lambda value: 0 <= value < 1),
    (r"(.*_)?(steps|frequency)", "a whole number from 1", lambda value: value >= 1 and value == int(value)),
    (r"(.*_)?(lr|eps|weight_decay)(_.*)?", "a number from 0", lambda value: value >= 0),
)


def expected(name: str, annotation: str, value: float | int | bool | str) -> str | None:
    """Return in words what a hyperparameter's value should have been, or None where it may be what it is."""
    if choices := re.fullmatch(r"Literal\[(.*)\]", annotation):
        known = ast.literal_eval(f"({choices[1]},)")
        return None if value in known else f"one of {', '.join(map(str, known))}"
    if annotation not in TYPES:
        return None  # the entry's own, and its to judge
    words, types = TYPES[annotation]
    if type(value) not in types:  # to isinstance, true is a number
        return words
    if isinstance(value, bool | str):
        return None
    if not abs(value) <= sys.float_info.max:
        return "a finite number"
    return next((words for form, words, holds in DOMAINS if re.fullmatch(form, name) and not holds(value)), None)
