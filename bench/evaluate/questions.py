"""The downstream tasks: lm-eval's own definitions, with their documents from the hub or from a mirror's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.api.group import Group
from lm_eval.api.task import Task as Questions
from lm_eval.config.group import GroupConfig
from lm_eval.tasks import TaskManager

from bench.data.corpus import mirror
from bench.errors import BenchError


@dataclass(frozen=True)
class Home:
    """Where a task's documents lie below the mirror's eval/, and where lm-eval defines it."""

    folder: str  # of lm_eval/tasks
    file: str  # in the mirror; {part} stands for each part of a group
    split: str  # that the file is


HOMES = {
    "lambada_openai": Home("lambada", "lambada/lambada_test.jsonl", "test"),
    "piqa": Home("piqa", "piqa.validation.jsonl", "validation"),
    "arc_easy": Home("arc", "arc_easy.validation.jsonl", "validation"),  # on the hub lm-eval reads its test split
    "hellaswag": Home("hellaswag", "hellaswag.validation.jsonl", "validation"),
    "winogrande": Home("winogrande", "winogrande_xl.validation.jsonl", "validation"),
    "blimp": Home("blimp", "blimp/{part}.jsonl", "train"),
}


@dataclass(frozen=True)
class Asked:
    """One downstream task, loaded."""

    name: str
    split: str
    source: str  # "hub", or "mirror"
    parts: dict[str, Questions]  # itself, or the tasks of a group
    groups: dict[str, Group]


def manager_of(names: list[str]) -> TaskManager:
    """Return an index of these tasks alone: lm-eval's whole one takes 16 s to read."""
    root = Path(lm_eval.tasks.__file__).parent
    return TaskManager(include_defaults=False, include_path=[root / HOMES[name].folder for name in names])


def files_of(name: str, manager: TaskManager) -> dict[str, Path] | None:
    """Return the mirror's file of each part of a task, or None where there is no mirror; a missing file is refused."""
    folder = mirror()
    if folder is None:
        return None
    parts = manager.task_index[name].cfg["task"] if _is_group(name, manager) else [name]
    files = {part: folder / "eval" / HOMES[name].file.format(part=part.removeprefix(f"{name}_")) for part in parts}
    missing = [path for path in files.values() if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise BenchError(
            f"{name}: the mirror has no {missing[0]}{more}",
            "put its documents there with the hub's column names, or unset BENCH_MIRROR to read the hub",
        )
    return files


def available(names: list[str]) -> tuple[list[str], list[BenchError]]:
    """Return the tasks whose documents are in the mirror, and why the others are not; all where there is no mirror."""
    manager, found, missing = manager_of(names), [], []
    for name in names:
        try:
            files_of(name, manager)
            found.append(name)
        except BenchError as error:
            missing.append(error)
    return found, missing


def load(name: str, manager: TaskManager) -> Asked:
    """Return the task as lm-eval defines it, zero-shot; from a mirror, only where the documents come from differs."""
    files = files_of(name, manager)
    try:
        loaded = manager.load([name if files is None else _local(name, files)])
    except Exception as error:  # datasets and lm-eval raise whatever a file or the network makes them
        what = str(error).strip().splitlines() or [type(error).__name__]
        hint = "check the network, or set BENCH_MIRROR" if files is None else "each line is a document as on the hub"
        raise BenchError(f"{name}: its documents cannot be read: {what[0]}", hint) from error
    tasks: dict[str, Questions] = loaded["tasks"]
    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
    first = next(iter(tasks.values()))
    split = first.config.test_split if first.has_test_docs() else first.config.validation_split
    groups = {name: _grouped(name, tasks, manager)} if _is_group(name, manager) else {}
    return Asked(name, split, "hub" if files is None else "mirror", tasks, groups)


def _is_group(name: str, manager: TaskManager) -> bool:
    return "group" in (manager.task_index[name].cfg or {})


def _grouped(name: str, tasks: dict[str, Questions], manager: TaskManager) -> Group:
    """Return lm-eval's group of these tasks, which averages over them as it says."""
    group = Group.from_config(GroupConfig(**manager.task_index[name].cfg))
    for task in tasks.values():
        group.add(task)
    return group


def _local(name: str, files: dict[str, Path]) -> dict[str, Any]:
    """Return a nameless group of the parts, each lm-eval's but for the file: only a group's members inherit."""
    split = HOMES[name].split
    splits = {"training_split": None, "validation_split": None, "test_split": None}
    key = "test_split" if split == "test" else "validation_split"
    members = [
        {"task": part, "dataset_path": "json", "dataset_name": None,
         "dataset_kwargs": {"data_files": {split: str(path)}}, **splits, key: split}
        for part, path in files.items()
    ]  # fmt: skip
    return {"group": "local files", "task": members}
