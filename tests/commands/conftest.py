import pytest

from postfixpy import log

from .queue_runner import Site


@pytest.fixture
def site(tmp_path, capfd, monkeypatch):
    """A queue and a configuration to run queue commands on. Commands change where the log goes: it is put back."""
    previous = log.set_sink(lambda severity, text: None)
    yield Site(tmp_path, capfd, monkeypatch)
    log.set_sink(previous)
