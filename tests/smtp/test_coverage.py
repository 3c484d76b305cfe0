"""Each row of the failure table (spec 11.2) and each quirk (spec 18) of the client has a recorded scenario.

The table: what it is, a scenario below compat/scenarios, and a text that the real program's recording must have.
TLS and SASL have scenarios of their own folders; quirks of the internal protocols (25 to 27) are in tests/ipc.
"""

from pathlib import Path

import pytest

from postfixpy.migrate import scenario

DIRECTORY = Path(__file__).parents[2] / "compat/scenarios"
FAILURES = [
    ("lookup", "smtp/dns-nxdomain", "dsn=5.4.4"),
    ("connect", "smtp/mx-all-down", "dsn=4.4.1"),
    ("greeting", "smtp/greeting-5xx-skipped", "refused to talk to me"),
    ("EHLO 421", "smtp/ehlo-421", "refused to talk to me"),
    ("LHLO", "smtp/lmtp-lhlo-rejected", "refused to talk to me"),
    ("own name, best MX", "smtp/loop-own-name-mx", "dsn=5.4.6"),
    ("own name, other MX", "smtp/mx-own-name", "4.4.6"),
    ("SMTPUTF8", "lmtp/smtputf8-missing", "dsn=5.6.7"),
    ("TLS not offered", "smtp/tls-encrypt-not-offered", "dsn=4.7.4"),
    ("SASL", "smtp/sasl-refused", "SASL authentication failed"),
    ("SIZE", "smtp/size-limit", "dsn=5.3.4"),
    ("MAIL", "smtp/mail-rejected", "in reply to MAIL FROM command"),
    ("RCPT", "smtp/rcpt-mixed", "in reply to RCPT TO command"),
    ("DATA", "smtp/data-rejected", "in reply to DATA command"),
    ("DATA 250", "smtp/data-250", "Protocol error: "),
    ("end of data", "smtp/dot-rejected", "in reply to end of DATA command"),
    ("end of data, LMTP", "lmtp/rcpt-mixed", "in reply to end of DATA command"),
    ("MIME: the real program delivers", "smtp/mime-nesting-exceeded", "status=sent"),
    ("bad record", "smtp/corrupt-message", "unreadable mail queue entry"),
    ("lost connection", "smtp/lost-rcpt", "lost connection with"),
    ("timeout", "smtp/timeout-content", "timed out while sending message body"),
    ("local data", "smtp/reply-filter-error", "local data error while talking to"),
    ("trace", "smtp/trace-service-missing", "nowhere service failed"),
    ("bounce", "smtp/bounce-service-missing", "service failure"),
]
QUIRKS = [
    (1, "smtp/dns-nxdomain", "type=AAAA"),
    (2, "smtp/dns-mx-no-address-soft", "dsn=4.4.4"),
    (3, "smtp/mx-all-down", "log connect to "),
    (4, "smtp/mail-rejected", "host 127.0.0.11[127.0.0.11] said"),
    (5, "smtp/reply-enhanced-first-line", "dsn=5.0.0"),
    (6, "smtp/reply-421-mail", "421 4.3.2"),
    (7, "smtp/quit-lost-pipelined", "| .\n| QUIT"),
    (8, "smtp/rcpt-all-rejected-data-accepted", "| ."),
    (9, "smtp/rcpt-350", "5.5.0"),
    (10, "smtp/greeting-5xx-skipped", "dsn=4."),
    (11, "smtp/soft-bounce", "SOFTBOUNCE"),
    (12, "smtp/relayhost-rcpt", "status=bounced"),
    (13, "smtp/relayhost-list", "status=bounced"),
    (14, "smtp/own-name-greeting", "greeted me with my own hostname"),
    (19, "smtp/sasl-site-password", "AUTH"),
    (20, "smtp/sasl-external", "SASL authentication failed"),
    (21, "smtp/generic-fold", "| \\x09"),
    (22, "smtp/mime-downgrade", "quoted-printable"),
    (23, "smtp/line-length-2048", "breaking line"),
    (24, "smtp/probe-data", "dsn=2.0.0"),
    (29, "smtp/hop-status-not-after-session", "result -1\n"),
    (31, "smtp/loop-self-fallback", "status="),
    (32, "smtp/dns-null-mx-among-others", "nullMX"),
    (33, "lmtp/notify", "LMTP client: errors"),
    (35, "smtp/header-checks-prepend-generic", "| "),
    (36, "lmtp/line-length-none", "| .."),
    (37, "smtp/pipeline-idle", "RCPT TO"),
    (38, "smtp/reply-mixed-codes", "450"),
    (39, "smtp/dsn-options", "NOTIFY"),
    (40, "smtp/flags-x-smtp", "action=relayed"),
]


@pytest.mark.parametrize(("what", "name", "text"), [*FAILURES, *QUIRKS])
def test_there_is_a_scenario(what: str | int, name: str, text: str) -> None:
    found = scenario.read(DIRECTORY / f"{name}.txt")
    assert "3.11" in found.recorded
    for release, recorded in found.recorded.items():
        assert text in recorded, (what, release)
