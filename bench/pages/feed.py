"""What machines follow: the feed of new records (Atom, RFC 4287) and the sitemap."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.pages import words
from bench.pages.shell import Page
from bench.record import Record
from bench.task import rung_name

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "isoloss")  # of the names in the feed, which outlive any address
NEWEST = 50


@dataclass(frozen=True)
class Item:
    """One record in the feed."""

    title: str
    id: str
    updated: str
    path: str
    who: str
    summary: str


def feed(records: Sequence[Record]) -> Page:
    """Return the feed of the newest records; a record whose time cannot be read is not in it."""
    timed = [(time, record) for record in records if (time := _time(record.made)) is not None]
    newest = sorted(timed, key=lambda pair: (pair[0], pair[1].run_id), reverse=True)[:NEWEST]
    items = [_item(record, time) for time, record in newest]
    return Page("feed.xml", "feed.xml", {"items": items, "feed_id": _name("feed")})


def sitemap(paths: Sequence[str]) -> Page:
    """Return the list of pages; its addresses are absolute, so it is made only for a site whose address is known."""
    return Page("sitemap.xml", "sitemap.xml", {"listed": sorted(paths)})


def _item(record: Record, time: str) -> Item:
    i = record.inputs
    ended = f"scoring loss {words.loss(record.score_loss)} nats" if record.outcome == "finished" else record.outcome
    return Item(
        title=f"{i.entry} on {i.task}, {rung_name(i.budget)}, seed {i.seed}: {ended}",
        id=_name(f"run/{record.run_id}"),
        updated=time,
        path=f"runs/{record.run_id}.html",
        who=record.who.partition("<")[0].strip() or "unknown",
        summary=f"Mode {i.mode}, track {i.track}, {record.tokens:,} tokens, {ended}.",
    )


def _name(what: str) -> str:
    return uuid.uuid5(NAMESPACE, what).urn


def _time(text: str) -> str | None:
    """Return a record's time as RFC 3339 in UTC, or None."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
