"""Contexts of any configuration and release, the log, and the certificates of the scenarios."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postfixpy import config, log
from postfixpy.config import View
from postfixpy.tls.context import ClientContext, client_context

CERTIFICATES = Path(__file__).parents[2] / "compat/certificates"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    found: list[str] = []
    previous = log.set_sink(lambda severity, text: found.append(text if severity == "info" else f"{severity}: {text}"))
    yield found
    log.set_sink(previous)


@pytest.fixture
def view(tmp_path: Path) -> Callable[..., View]:
    """A configuration as the SMTP client sees it; $certificates is the folder of the certificates."""

    def make(main_cf: str = "", release: str = "3.11") -> View:
        (tmp_path / "main.cf").write_text(f"compatibility_level = 3.6\ncertificates = {CERTIFICATES}\n{main_cf}")
        return config.load(str(tmp_path), release=release, profile="upstream").view(process_name="smtp")

    return make


@pytest.fixture
def context(view: Callable[..., View]) -> Callable[..., ClientContext]:
    def make(main_cf: str = "smtp_tls_CAfile = $certificates/root-ca.pem\n", release: str = "3.11") -> ClientContext:
        found = client_context(view(main_cf, release))
        assert found is not None
        return found

    return make
