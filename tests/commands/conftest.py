import pytest

from .queue_runner import Site


@pytest.fixture
def site(tmp_path, capfd, monkeypatch):
    """A queue and a configuration to run queue commands on."""
    return Site(tmp_path, capfd, monkeypatch)
