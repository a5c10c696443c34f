"""What `bench new` writes: an entry that already passes, to be edited."""

import re
from keyword import iskeyword
from pathlib import Path
from string import Template

from bench.errors import BenchError
from bench.record import write_atomically

HERE = Path(__file__).parent
RESERVED = ("index",)  # of pages, which each entry has one of
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def begin(name: str, baselines: Path) -> Path:
    """Write <baselines>/<name>/optimizer.py and <name>.toml, and return the TOML's path; nothing is written over."""
    if not NAME.fullmatch(name) or len(name) > 40 or name in RESERVED:
        raise BenchError(
            f"{name!r} is no name of an entry",
            f"small letters and digits, in words joined by hyphens, as my-optimizer; {', '.join(RESERVED)} is a page's",
        )
    if not baselines.is_dir():
        raise BenchError(f"{baselines}: no such folder", "call this from the root of a clone, or say --baselines")
    folder = baselines / name.replace("-", "_")
    taken = [folder] if folder.exists() else sorted(baselines.glob(f"*/{name}.toml"))
    if taken:
        raise BenchError(f"{taken[0]}: is there already", "choose another name")
    words = name.split("-")
    facts = {"title": " ".join(words).capitalize(), "algorithm": "".join(word.capitalize() for word in words)}
    texts = {target: (HERE / source).read_text(encoding="utf-8")
             for source, target in (("optimizer.txt", "optimizer.py"), ("entry.txt", f"{name}.toml"))}  # fmt: skip
    algorithm = facts["algorithm"]
    if iskeyword(algorithm) or re.search(rf"\b{algorithm}\b", texts["optimizer.py"]):
        raise BenchError(f"{name!r} is no name of an entry: its class would be {algorithm}", "choose another name")
    for target, text in texts.items():
        write_atomically(folder / target, Template(text).substitute(facts).encode())
    return folder / f"{name}.toml"
