"""The tls= field, step by step."""

from postfixpy.smtp import tls_status
from postfixpy.smtp.tls_status import TLSStatus
from postfixpy.tls.level import Level


def test_a_life() -> None:
    status = TLSStatus()
    assert str(status) == ""
    status.start(requiretls=True)
    status.expect(Level.DANE)
    assert str(status) == "dane?/requiretls?"
    status.decide_level(Level.ENCRYPT)
    status.decide_requiretls(tls_status.NO_MATCH, violated=True)
    assert str(status) == "dane:encrypt/!requiretls:nocertmatch"
    status.start(requiretls=False)
    status.expect(None)
    status.decide_requiretls(tls_status.NONE)
    assert str(status) == "unknown?"


def test_off() -> None:
    status = TLSStatus(enabled=False)
    status.expect(Level.SECURE)
    assert str(status) == ""
