"""Whether the clocks that a drill reads agree: this machine's, the object store's, PostgreSQL's, and those by
which the newest backup and the samples were stamped.

What would be lost is one clock's moment minus another one's. Where they are apart it would come out as
nothing, or as a year; and a drill that is dated ahead would count as the newest one until then. So it is not
told, and the drill fails and names the clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.catalogue import Backup, Catalogue, place_of
from bilten_orchestration.backups.wal.archive import AHEAD
from bilten_orchestration.drills.record import Lost, Record
from bilten_orchestration.drills.report import CLOCKS_APART as APART
from bilten_orchestration.errors import Problem, TransientError

PHASE = "clocks"
_NEXT = "set them right (NTP), then the drill again; until then nobody can say what would be lost"
_FULL = "; a backup that is dated wrong is followed by a new one: bilten backup create"


def here() -> datetime:
    """This machine's, UTC."""
    return datetime.now(UTC)


def apart(repository: Repository, found: Catalogue, record: Record) -> tuple[Problem, ...]:
    """Everything that does not agree. PostgreSQL's clock is left out while it does not answer.

    Raises Mismatch where the object store tells no time, and what the store does.
    """
    began = here()
    store = repository.clock()
    problems = list(_two("this machine", here(), "the object store", store, here() - began))
    try:
        samples = record.samples()
        began = here()
        server = record.clock()
        problems += _two("this machine", here(), "PostgreSQL", server, here() - began)
    except TransientError:
        samples = {}
    living = [backup for backup in found.backups if backup.state != "expired"]
    if living:
        problems += _dated(repository, living[-1])
    problems += _sampled(samples, store)
    return tuple(problems)


def _two(one: str, at: datetime, other: str, there: datetime, spent: timedelta) -> Iterator[Problem]:
    if abs(at - there) > APART + spent:
        yield Problem(
            f"the clocks of {one} and of {other} differ",
            expected=f"at most {APART.total_seconds():.0f} s",
            found=f"{at:%F %T} and {there:%F %T} UTC, {abs((at - there).total_seconds()):,.0f} s apart",
            next=_NEXT,
        )


def _dated(repository: Repository, backup: Backup) -> Iterator[Problem]:
    """A manifest is written when its backup has finished; the moment that it holds is the server's."""
    manifest = backup.manifest
    listed = repository.find(f"{place_of(manifest.store, manifest.id)}/manifest.json")
    moments = {"finished": manifest.finished_at, "is of": manifest.consistent_at}
    for what, at in moments.items():
        if at is None or listed is None:
            continue
        early = what == "finished" and at < listed.written_at - AHEAD
        late = at > listed.written_at + AHEAD
        if early or late:
            yield Problem(
                f"the clocks by which {manifest.id} and its object were dated differ",
                expected=f"at most {AHEAD.total_seconds() / 60:.0f} minutes",
                found=f"it {what} {at:%F %T} UTC by its own, stored at {listed.written_at:%F %T} UTC",
                next=_NEXT + _FULL,
            )
            return


def _sampled(samples: Mapping[str, Lost], store: datetime) -> Iterator[Problem]:
    for sample in samples.values():
        reach = sample.reachable_until
        ahead = sample.sampled_at > store + APART
        if ahead or (reach is not None and reach > sample.sampled_at + APART):
            yield Problem(
                f"the clocks by which samples of {sample.bucket} were taken differ",
                expected=f"a sample from before {store:%F %T} UTC, and a heartbeat from before the sample",
                found=f"a sample of {sample.sampled_at:%F %T} UTC"
                + ("" if reach is None else f", and a heartbeat of {reach:%F %T} UTC"),
                next="bilten wal status; " + _NEXT,
            )
