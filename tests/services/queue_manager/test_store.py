"""The queue directory as the queue manager sees it: errors, recovery, patches."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.errors import FatalError
from postfixpy.mail.queue import Queue
from postfixpy.services.queue_manager.store import Store

from .spool import Spool


@pytest.fixture
def texts() -> Iterator[list[str]]:
    out: list[str] = []
    old = log.set_sink(lambda severity, text: out.append(f"{severity}: {text}"))
    yield out
    log.set_sink(old)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


@pytest.fixture
def store(spool: Spool) -> Store:
    return Store(spool.queue, clock=lambda: spool.now)


def test_recovery_makes_active_mail_due_at_once(spool: Spool, store: Store, texts: list[str]) -> None:
    ids = [spool.submit(["a@x"], "active") for _ in range(3)]
    os.utime(spool.queue.path("active", ids[0]), (spool.now + 1000, spool.now + 1000))
    (spool.directory / "active" / "not-an-id").touch()
    assert store.recover() == 3
    assert [spool.where(q) for q in ids] == [["incoming"]] * 3
    assert [spool.due_in(q, "incoming") for q in ids] == [0, 0, 0]
    assert texts == ["warning: qmgr_move: ignored: queue active id not-an-id"]


def test_recovery_with_hashed_queues(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.queue = Queue(str(tmp_path), "active deferred", 2)
    queue_id = spool.submit(["a@x"])
    spool.queue.rename(queue_id, "incoming", "active")
    assert Store(spool.queue).recover() == 1
    assert os.path.exists(tmp_path / "incoming" / queue_id)


def test_claim(spool: Spool, store: Store, texts: list[str]) -> None:
    queue_id = spool.submit(["a@x"])
    os.utime(spool.queue.path("incoming", queue_id), (spool.now + 2, spool.now + 2))
    assert store.claim("incoming", queue_id, all_times=False) is None
    os.utime(spool.queue.path("incoming", queue_id), (spool.now + 1, spool.now + 1))
    assert store.claim("incoming", queue_id, all_times=False) is not None
    assert spool.where(queue_id) == ["active"]
    assert store.claim("incoming", queue_id, all_times=False) is None, "somebody else took it"
    later = spool.submit(["a@x"])
    os.utime(spool.queue.path("incoming", later), (spool.now + 9999, spool.now + 9999))
    assert store.claim("incoming", later, all_times=True) is not None
    assert texts == []


def test_what_has_gone_is_a_warning(store: Store, texts: list[str]) -> None:
    assert store.open("ABCDEF123") is None
    store.remove("ABCDEF123")
    store.postpone("ABCDEF123", 10)
    store.mark_corrupt("ABCDEF123")
    store.reset_defer_log("ABCDEF123")
    none = "No such file or directory"
    assert texts == [
        f"warning: open active ABCDEF123: {none}",
        f"warning: qmgr_active_done_3_generic: remove ABCDEF123 from active: {none}",
        f"warning: qmgr_active_defer: rename ABCDEF123 from active to deferred: {none}",
    ]


def test_other_errors_are_fatal(spool: Spool, store: Store) -> None:
    queue_id = spool.submit(["a@x"], "active")
    (spool.directory / "deferred").rmdir()
    (spool.directory / "deferred").touch()
    with pytest.raises(FatalError, match=f"rename {queue_id} from active to deferred: Not a directory"):
        store.postpone(queue_id, 10)
    assert spool.where(queue_id) == ["active"]
    os.remove(spool.queue.path("active", queue_id))
    os.mkdir(spool.queue.path("active", queue_id))
    with pytest.raises(FatalError, match=f"remove {queue_id} from active: "):
        store.remove(queue_id)


def test_logs(spool: Spool, store: Store) -> None:
    path = spool.directory / "bounce" / "ABCDEF123"
    assert not store.has_log("bounce", "ABCDEF123")
    path.write_bytes(b"x")
    assert store.has_log("bounce", "ABCDEF123")
    path.write_bytes(b"")
    assert not store.has_log("bounce", "ABCDEF123")
    assert not path.exists(), "an empty log comes from a failure, which the agent has reported as a deferral"
