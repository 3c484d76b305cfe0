"""Each scenario that was recorded from the real program replays identically, in memory and on a virtual clock."""

from pathlib import Path

import pytest

from postfixpy.migrate import replay_smtp, scenario
from postfixpy.migrate.ladder import ladder

DIRECTORY = Path(__file__).parents[2] / "compat/scenarios"
CASES = [
    pytest.param(path, release, id=f"{path.relative_to(DIRECTORY).with_suffix('')}-{release}")
    for path in scenario.files([str(DIRECTORY)])
    for release in scenario.read(path).recorded
    if not scenario.read(path).only_live
]


def test_there_are_scenarios_of_each_release() -> None:
    for release in ("3.7", "3.11"):
        assert sum(case.values[1] == release for case in CASES) >= 150


def test_every_scenario_is_recorded() -> None:
    found = {path: scenario.read(path) for path in scenario.files([str(DIRECTORY)])}
    missing = [
        f"{path.name} {release}"
        for path, content in found.items()
        for release in ("3.7", "3.11")
        if content.wants(release) != (release in content.recorded)
    ]
    assert missing == []


@pytest.mark.parametrize(("path", "release"), CASES)
def test_replay(path: Path, release: str, tmp_path: Path) -> None:
    found = scenario.read(path)
    expected = found.recorded[release]
    ours = replay_smtp.replay(found, str(tmp_path), release)
    assert ours == expected, "\n" + ladder(expected, ours, f"Postfix {release}", "ours")
