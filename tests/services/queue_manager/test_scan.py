"""Scans of the incoming and deferred queues: triggers, restarts, turns."""

from postfixpy.services.queue_manager.scan import Scans


class Directory:
    def __init__(self, **queues: list[str]) -> None:
        self.queues = queues
        self.scans = Scans(lambda queue: iter(list(self.queues.get(queue, []))))

    def take(self, count: int = 100) -> list[str]:
        out = []
        while len(out) < count and (found := self.scans.next()) is not None:
            out.append(found[1])
        return out


def test_nothing_is_scanned_without_a_request() -> None:
    directory = Directory(incoming=["a"], deferred=["d"])
    assert directory.take() == []
    directory.scans.triggered(b"I")
    assert directory.take() == ["a"]
    directory.scans.triggered(b"D")
    assert directory.take() == ["d"]
    directory.scans.triggered(b"W")
    assert directory.take() == ["a"]
    directory.scans.triggered(b"xyz")
    assert directory.take() == []


def test_scans_take_turns() -> None:
    directory = Directory(incoming=["a", "b", "c"], deferred=["x", "y"])
    directory.scans.triggered(b"ID")
    assert directory.take() == ["a", "x", "b", "y", "c"]


def test_new_mail_first_when_the_active_queue_is_full() -> None:
    directory = Directory(incoming=["a", "b"], deferred=["x", "y"])
    directory.scans.triggered(b"ID")
    assert directory.take(1) == ["a"]
    directory.scans.prefer_new_mail()
    assert directory.take(1) == ["b"]


def test_request_during_a_scan_starts_another() -> None:
    directory = Directory(incoming=["a", "b"])
    directory.scans.triggered(b"I")
    assert directory.take(1) == ["a"]
    directory.queues["incoming"] = ["c"]
    directory.scans.triggered(b"III")
    assert directory.take() == ["b", "c"]
    assert not directory.scans.incoming.running


def test_all_times_holds_for_the_running_scan_and_the_next() -> None:
    directory = Directory(deferred=["x", "y"])
    directory.scans.triggered(b"D")
    directory.take(1)
    assert not directory.scans.deferred.mode.all_times
    directory.scans.triggered(b"A")
    assert directory.scans.deferred.mode.all_times
    directory.take()
    directory.scans.triggered(b"D")
    assert directory.scans.deferred.mode.all_times
    directory.take()
    directory.scans.triggered(b"D")
    assert not directory.scans.deferred.mode.all_times


def test_flush_overrides_defer_transports() -> None:
    directory = Directory(deferred=["x"], incoming=["a"])
    assert directory.scans.triggered(b"DFIA")
    assert directory.scans.deferred.mode.run_deferred and directory.scans.deferred.mode.all_times
    assert directory.scans.incoming.mode.run_deferred and directory.scans.incoming.mode.all_times
    assert not directory.scans.triggered(b"D")


def test_what_a_queue_manager_that_ends_leaves_to_the_next() -> None:
    queue = {"incoming": [], "deferred": ["A", "B"]}
    scans = Scans(lambda name: iter(queue[name]))
    assert scans.unfinished() == b""
    scans.triggered(b"DIFA")  # postqueue -f
    assert scans.unfinished() == b"DAF"
    other = Scans(lambda name: iter(queue[name]))
    other.triggered(scans.unfinished())
    assert other.deferred.running and other.deferred.mode == scans.deferred.mode
    while scans.next() is not None:
        pass
    assert scans.unfinished() == b""
