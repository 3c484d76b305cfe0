"""Master's bookkeeping, without a process."""

import pytest

from postfixpy.config.master_cf import RowDefaults, parse_row
from postfixpy.ipc.master_status import AVAIL, TAKEN
from postfixpy.services.master_service import ServiceState

OK, EXIT_1, KILLED_9, KILLED_15 = 0, 1 << 8, 9, 15


def service(maxproc: object = 2) -> ServiceState:
    entry = parse_row(f"smtp unix - - n - {maxproc} smtp", "master.cf: line 1", RowDefaults(100, False))
    return ServiceState(entry, "/usr/lib/postfix/sbin/smtp", "private/smtp")


def test_master_watches_until_a_process_waits():
    state = service()
    assert state.watching
    state.started(10, 1)
    assert not state.watching
    assert state.status(10, 1, TAKEN) is None
    assert state.watching
    state.status(10, 1, AVAIL)
    assert (state.watching, state.available, state.children[10].uses) == (False, 1, 1)
    state.status(10, 1, AVAIL)  # redundant
    assert state.children[10].uses == 1


def test_the_process_limit():
    state = service(2)
    for pid in (10, 11):
        state.started(pid, pid)
        state.status(pid, pid, TAKEN)
    assert not state.watching
    assert not state.may_start()
    assert state.reaped(10, OK) == []
    assert state.watching
    assert service(0).may_start(1000)


def test_messages_of_strangers_and_nonsense():
    state = service()
    state.started(10, 1)
    assert state.status(99, 1, TAKEN) is None  # reaped before it was heard
    assert state.status(10, 2, TAKEN) == "ignoring status update from child pid 10 generation 2"
    assert state.available == 1
    text = "master_status_event: ignoring unknown status: 7 allegedly from pid: 10"
    assert state.status(10, 1, 7) == text


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (EXIT_1, "process /usr/lib/postfix/sbin/smtp pid 10 exit status 1"),
        (KILLED_9, "process /usr/lib/postfix/sbin/smtp pid 10 killed by signal 9"),
    ],
)
def test_a_process_that_ends_badly_before_its_first_client_throttles(status, text):
    state = service()
    state.started(10, 1)
    assert state.reaped(10, status) == [text, "/usr/lib/postfix/sbin/smtp: bad command startup -- throttling"]
    assert state.throttled
    assert not state.watching
    state.throttled = False
    assert state.watching


def test_a_process_that_has_served_does_not():
    state = service()
    state.started(10, 1)
    state.status(10, 1, TAKEN)
    state.status(10, 1, AVAIL)
    assert state.reaped(10, KILLED_9) == ["process /usr/lib/postfix/sbin/smtp pid 10 killed by signal 9"]
    assert state.watching


def test_the_second_to_die_of_a_throttled_service_says_so_once():
    state = service()
    state.started(10, 1)
    state.started(11, 2)
    assert len(state.reaped(10, EXIT_1)) == 2
    assert len(state.reaped(11, EXIT_1)) == 1


def test_a_service_that_is_stopped_dies_in_silence():
    state = service()
    state.started(10, 1)
    state.stopping = True
    assert state.reaped(10, KILLED_15) == []
    assert not state.watching


def test_after_a_reload_the_old_processes_do_not_count_as_available():
    state = service()
    state.started(10, 1)
    new = service(3)
    state.reloaded(new.entry, "/new/smtp")
    assert state.watching
    assert (state.path, state.entry.maxproc, len(state.children)) == ("/new/smtp", 3, 1)
