"""Scenario files: sections, and where recordings are stored."""

import pytest

from postfixpy.migrate import scenario

TEXT = """\
What it shows.
== main.cf
a = b
== request
nexthop = [127.0.0.11]
== recorded 3.7 3.11
result 0
done 1
"""


def test_recordings_of_several_releases_share_a_section() -> None:
    found = scenario.parse(TEXT)
    assert found.recorded == {"3.7": "result 0\ndone 1\n", "3.11": "result 0\ndone 1\n"}


def test_a_recording_that_differs_gets_a_section_of_its_own() -> None:
    text = scenario.with_recording(TEXT, "3.7", "result -1\ndone none\n")
    assert text.endswith("== recorded 3.7\nresult -1\ndone none\n== recorded 3.11\nresult 0\ndone 1\n")
    assert scenario.with_recording(text, "3.7", "result 0\ndone 1\n") == TEXT


def test_releases_are_in_order_of_their_numbers() -> None:
    text = scenario.with_recording(TEXT, "3.10", "result 0\ndone 1\n")
    assert "== recorded 3.7 3.10 3.11\n" in text


def test_releases_of_a_scenario() -> None:
    assert scenario.parse(TEXT).wants("3.5")
    only = scenario.parse("x\n== releases 3.10 3.11\n" + TEXT)
    assert only.wants("3.11") and not only.wants("3.7")


def test_unknown_section() -> None:
    with pytest.raises(ValueError, match="unknown section: colour"):
        scenario.parse("x\n== colour\nblue\n")


def test_what_is_compared() -> None:
    text = "wire 127.0.0.11:25 1\n| EHLO me\n--\n| QUIT\nlog one\nbounce: two\nresult 0\n"
    assert scenario.parse(TEXT).select(text) == text
    assert scenario.parse(f"x\n== compare wire result\n{TEXT}").select(text) == (
        "wire 127.0.0.11:25 1\n| EHLO me\n--\n| QUIT\nresult 0\n"
    )
    assert scenario.parse(f"x\n== compare log bounce\n{TEXT}").select(text) == "log one\nbounce: two\n"
    with pytest.raises(ValueError, match="unknown observable: colour"):
        scenario.parse(f"x\n== compare colour\n{TEXT}")


def test_what_only_processes_show() -> None:
    assert not scenario.parse(TEXT).only_live
    found = scenario.parse(f"x\n== live ipc_timeout\n{TEXT}")
    assert found.only_live and found.live == ["ipc_timeout"]
    assert scenario.parse(f"x\n== live\n{TEXT}").only_live
