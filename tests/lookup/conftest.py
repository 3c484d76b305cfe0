"""What the lookup tests share: settings without files, and a log to look at."""

from collections.abc import Iterator

import pytest

from postfixpy import log


class Settings:
    """The parameters that tables and searches read, with Postfix's defaults."""

    smtputf8_enable = True
    recipient_delimiter = "+"
    owner_request_special = True
    double_bounce_sender = "double-bounce"
    myorigin = "example.com"
    mydestination = "localhost, $x, here.example"
    parent_domain_matches_subdomains = "debug_peer_list, relay_domains"
    lmdb_map_size = 16777216

    def __init__(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The records logged during a test, ``severity: text``."""
    records: list[str] = []
    previous = log.set_sink(lambda severity, text: records.append(f"{severity}: {text}"))
    yield records
    log.set_sink(previous)
