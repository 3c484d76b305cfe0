"""in_flow_delay: tokens in the pipe."""

import os
from collections.abc import Iterator

import pytest

from postfixpy.ipc.master_status import flow_count
from postfixpy.services.queue_manager.flow import Flow


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_one_token_for_each_new_message(pipe: tuple[int, int]) -> None:
    flow = Flow(5, *pipe)
    flow.update(took_new=True, idle=False)
    assert flow_count(pipe[0]) == 1
    flow.update(took_new=False, idle=False)
    assert flow_count(pipe[0]) == 1, "mail that was deferred says nothing about the flow"


def test_full_when_nothing_waits(pipe: tuple[int, int]) -> None:
    flow = Flow(5, *pipe)
    flow.update(took_new=False, idle=True)
    assert flow_count(pipe[0]) == 5
    flow.update(took_new=True, idle=True)
    assert flow_count(pipe[0]) == 5


def test_tokens_above_the_limit_are_taken_away(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x" * 9)
    Flow(5, *pipe).update(took_new=True, idle=False)
    assert flow_count(pipe[0]) == 5


def test_off(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    Flow(0, *pipe).update(took_new=True, idle=True)
    assert flow_count(pipe[0]) == 0
    monkeypatch.delenv("GENERATION", raising=False)
    assert Flow.inherited(1, 100).limit == 0, "no master"
