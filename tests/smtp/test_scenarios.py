"""Each scenario that was recorded from the real program replays identically, in memory and on a virtual clock."""

import difflib
from pathlib import Path

import pytest

from postfixpy.migrate import replay_smtp, scenario

DIRECTORY = Path(__file__).parents[2] / "compat/scenarios/smtp"
CASES = [
    pytest.param(path, release, id=f"{path.stem}-{release}")
    for path in sorted(DIRECTORY.glob("*.txt"))
    for release in scenario.parse(path.read_text()).recorded
]


def test_there_are_scenarios() -> None:
    assert len(CASES) >= 2


@pytest.mark.parametrize(("path", "release"), CASES)
def test_replay(path: Path, release: str, tmp_path: Path) -> None:
    found = scenario.parse(path.read_text())
    expected = found.recorded[release]
    ours = replay_smtp.replay(found, str(tmp_path), release)
    assert ours == expected, "\n".join(
        difflib.unified_diff(expected.splitlines(), ours.splitlines(), "Postfix", "ours", lineterm="")
    )
