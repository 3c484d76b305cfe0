from collections.abc import Callable

from postfixpy import log
from postfixpy.tls import loglevel


def capture(work: Callable[[], int]) -> tuple[int, list[str]]:
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    try:
        return work(), lines
    finally:
        log.set_sink(previous)


def test_numbers_and_words() -> None:
    assert loglevel.log_mask("smtp_tls_loglevel", "0") == 0
    assert loglevel.log_mask("smtp_tls_loglevel", "1") == loglevel.SUMMARY
    assert loglevel.log_mask("smtp_tls_loglevel", "Summary, peercert") == loglevel.SUMMARY | loglevel.PEERCERT
    assert loglevel.log_mask("smtp_tls_loglevel", "9") == loglevel.log_mask("smtp_tls_loglevel", "ssl-developer")


def test_an_unknown_word_switches_all_off() -> None:
    found = capture(lambda: loglevel.log_mask("smtp_tls_loglevel", "1 nonsense"))
    assert found == (0, ['warning: unknown smtp_tls_loglevel value "nonsense" in "1 nonsense"'])
