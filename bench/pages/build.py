"""The site: a pure function from material to pages, and the one place that writes them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.children import quantized_path, read_quantized
from bench.entry import find_entries
from bench.errors import BenchError
from bench.index import index_row
from bench.ledger import read_studies
from bench.pages import charts, tasks, views
from bench.pages.boards import ROWS, files, sheet
from bench.pages.data import data_files
from bench.pages.drawing import BUNDLE, Drawn, bundle, bundle_head, picture, unchecked
from bench.pages.feed import feed, sitemap
from bench.pages.others import FUNCTIONS as OTHERS
from bench.pages.others import other_pages
from bench.pages.releases import read_releases
from bench.pages.shell import Page, Sources, render
from bench.pages.views import BoardView, Material
from bench.places import SOURCES
from bench.record import find_records, read_log, read_record
from bench.rerun import read_maintainers
from bench.score.board import Row
from bench.score.boards import make_boards
from bench.score.cells import one_record_per_run
from bench.spec import read_text
from bench.task import read_task
from bench.timings import read_timings

CARD = "static/card.png"
LIST = "pages.txt"  # the files that we wrote, one a line; nothing else in a folder is ever removed
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]*")  # what may become a file's name; a placebo's has an @


def read_sources(folder: Path) -> Sources:
    """Return the templates and the static files of a leaderboard folder."""
    read = {part: {path.name: read_text(path) for path in sorted((folder / part).glob("[!.]*.*"))}
            for part in ("templates", "static")}  # fmt: skip
    if "index.html" not in read["templates"]:
        raise BenchError(f"{folder / 'templates'}: holds no index.html", "run from the root of a clone")
    return Sources(read["templates"], read["static"])


def pages(material: Material, sources: Sources, address: str = "", repository: str = "") -> dict[str, str]:
    """Return every page by its path; equal arguments give equal bytes. address: where they are published; repository:
    where the clone is had that they are of. Both are empty where that is not known."""
    _check_names(material)
    boards = {id(board): views.board_view(board, material) for board in material.boards}
    seen = {record.task for record in material.records}
    by_task = {name: [boards[id(board)] for board in material.boards if board.task == name]
               for name in sorted(material.tasks, key=lambda name: (name not in seen, name))}  # fmt: skip
    wanted = [
        Page("index.html", "index.html", make_facts=partial(_front, by_task, material), beside=_board_files),
        Page("tasks/index.html", "tasks.html", {"by_task": by_task}),
        Page("entries/index.html", "entries.html"),
    ]
    for name, task in sorted(material.tasks.items()):
        wanted.append(Page(f"tasks/{name}.html", "task.html", {"name": name, "task": task, "boards": by_task[name]}))
    wanted += other_pages(material, list(boards.values()))
    wanted.append(feed(material.records))
    if address:
        wanted.append(sitemap([page.path for page in wanted if page.path.endswith(".html")]))
    found = {f"static/{name}": text for name, text in sources.static.items()}
    return found | render(wanted, material, sources, FUNCTIONS | OTHERS, address, repository)


def _front(by_task: Mapping[str, Sequence[BoardView]], material: Material) -> dict[str, Any]:
    """Return what the first page shows: every board with all its cells."""
    sheets = [sheet(view, material) for views in by_task.values() for view in views]
    return {"sheets": sheets, "bound": ROWS, "newest": next((one for one in material.releases if one.findings), None)}


def _board_files(front: Mapping[str, Any]) -> dict[str, str]:
    """Return the boards as the first page's script and as machines read them."""
    sheets = front["sheets"]
    return {one.file: one.script() for one in sheets} | data_files(sheets)


def _ladder(view: BoardView, rows: list[Row]) -> Drawn:
    """Return the chart of some rows of a board."""
    return charts.ladder_chart(view.board, tuple(rows), f"ladder-{view.board.task}-{view.anchor}")


FUNCTIONS = {
    "task_facts": tasks.task_facts, "repeats": views.repeats, "read_at": views.read_at,
    "entry_values": views.entry_values, "ladder": _ladder,
    "not_drawn": charts.not_drawn, "leading": charts.LEADING,
    "files": files, "powers": tasks.powers, "price": tasks.price, "forest": tasks.forest, "SEEDS": tasks.SEEDS,
}  # fmt: skip


def _check_names(material: Material) -> None:
    """Refuse what cannot be a file's name, since a record by anybody becomes a path here."""
    for name in [*material.tasks, *material.entry_names, *(board.mode for board in material.boards)]:
        if not NAME.fullmatch(name):
            raise BenchError(
                f"{name!r} cannot be the name of a page", "letters, digits, '-', '_', '.' and '@' are taken"
            )
    for board in material.boards:
        if board.task not in material.tasks:
            raise BenchError(f"a board of {board.task}, which is no task here")


def drawn_files(sources: Sources) -> dict[str, bytes]:
    """Return the pictures that are made of static files: the card that a link to the site is shown with."""
    return {CARD: picture(sources.static["card.svg"])}


def write_site(site: Mapping[str, str | bytes], folder: Path) -> list[str]:
    """Make the folder hold the site and its list, and return the pages written or removed; equal files are left."""
    listed = folder / LIST
    if folder.is_dir() and any(folder.glob("[!.]*")) and not listed.exists():
        raise BenchError(f"{folder}: not empty, and not a folder of pages ({LIST} is missing)", "name an empty folder")
    old = set(listed.read_text().splitlines()) if listed.exists() else set()
    if not old >= set(site):  # first, so that what a kill or a full disk leaves here is known for ours
        _write(listed, _lines({*old, *site}))
    changed = [path for path, text in sorted(site.items()) if _write(folder / path, text)]
    for path in sorted(old - set(site)):
        target = folder / path
        if target.is_file() and folder.resolve() in target.resolve().parents:
            target.unlink()
            changed.append(path)
    _write(listed, _lines(site))
    return changed


def _lines(paths: Iterable[str]) -> str:
    return "".join(f"{path}\n" for path in sorted(paths))


def _write(target: Path, text: str | bytes) -> bool:
    """Make a file hold a text and return whether it did not; one cut short by a kill differs, and is written again."""
    data = text.encode() if isinstance(text, str) else text
    if target.is_file() and target.read_bytes() == data:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    return True


def build_site(
    records: list[Path], tasks: Path, baselines: Path, leaderboard: Path, out: Path, address: str = "",
    repository: str = "",
) -> tuple[int, tuple[str, ...]]:  # fmt: skip
    """Read everything, write the pages into the folder and return how many there are, and why the build fails."""
    material = gather(records, tasks, baselines, leaderboard)
    sources = read_sources(SOURCES)
    with unchecked():
        site = pages(material, sources, address, repository)
    write_site({**site, **drawn_files(sources), BUNDLE: _bundle(out)}, out)
    return sum(path.endswith(".html") for path in site), material.failing


def _bundle(out: Path) -> str:
    """Return the charts' script: the folder's own where it is of this version, since making it takes seconds."""
    there = out / BUNDLE
    text = there.read_text() if there.is_file() else ""
    return text if text.startswith(bundle_head()) and text.endswith("})();\n") else bundle()


def gather(records: list[Path], tasks: Path, baselines: Path, leaderboard: Path) -> Material:
    """Return the material of the pages, records checked against their digests, in an order that no folder decides.

    leaderboard is the folder of the plans and ledgers that the records are read against.
    """
    definitions = {path.stem: read_task(path) for path in sorted(tasks.glob("*.toml"))}
    there = {path.as_posix(): read_record(path) for path in find_records(records)}
    rows = one_record_per_run([index_row(record, path) for path, record in there.items()])
    paths = {row.run_id: Path(row.path) for row in sorted(rows, key=lambda row: row.run_id)}
    found = tuple(there[path.as_posix()] for path in paths.values())
    logs = {record.run_id: read_log(paths[record.run_id], record) for record in found}
    studies = {name: read_studies(leaderboard, name, task.digest) for name, task in definitions.items()}
    timings = {name: read_timings(leaderboard, name, task.digest) for name, task in definitions.items()}
    boards, searches, refusals = make_boards(found, logs, definitions, studies, timings)
    entries = {entry.name: entry for entry in find_entries(baselines)}
    children = {run_id: quantized_path(path) for run_id, path in paths.items()}
    quantized = {run_id: read_quantized(child) for run_id, child in children.items() if child.exists()}
    return Material(definitions, entries, found, boards, logs, refusals, paths, studies, searches, timings,
                    read_releases(leaderboard / "releases"), quantized, read_maintainers(leaderboard))  # fmt: skip
