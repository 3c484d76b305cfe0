"""No test skips silently: with POSTFIXPY_NO_SKIPS set (.ci/run), a test that skips for want of something fails."""

import os
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from postfixpy import log

# No deadlines: how long an example takes says how busy the machine is. The same examples in every run of CI: what lands
# is what was tested. A developer's runs look further each time.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("developer", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "developer")

ALLOWED = (
    "root reads everything",  # .ci/run runs the same tests as an ordinary user
    "root writes everywhere",
    "root may bind any port",
    "the real one wants root",  # and these as root
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("POSTFIXPY_NO_SKIPS") and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(text in reason for text in ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"skipped, which is not allowed here: {reason}"
    return report


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """The log of the test, a line each, with its severity unless that is info."""
    found: list[str] = []

    def sink(severity: str, text: str) -> None:
        found.append(text if severity == "info" else f"{severity}: {text}")

    previous = log.set_sink(sink)
    yield found
    log.set_sink(previous)
