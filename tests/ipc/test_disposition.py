import pytest

from postfixpy.errors import FatalError
from postfixpy.ipc import bounce, flush, verify
from postfixpy.ipc.disposition import Disposition, Reporter
from postfixpy.mail.delivery import (
    MTA_VERIFY,
    RECORD,
    RECORD_DELAYED_SENT,
    SUCCESS,
    USER_VERIFY,
    DeliveryRequest,
    MessageStats,
    Recipient,
)
from postfixpy.mail.dsn import DSN, NOTIFY_DELAY, NOTIFY_FAILURE, NOTIFY_SUCCESS
from postfixpy.mail.outcome import Outcome
from postfixpy.mail.queue import Queue
from postfixpy.mail.records import RecordFile, encode_record

from .mail_system import MailSystem, status

S = 1_000_000
T = 1_700_000_000 * S
STATS = MessageStats(T, T + S, T + S, T + 2 * S, T + 3 * S)
QUEUED = "Q: to=<u@example.com>, relay=mx[192.0.2.1]:25, delay=3, delays=1/0/1/1, dsn="
SOFT = DSN("4.4.1", reason="connect: timed out")
HARD = DSN("5.1.1", reason="no such user", diag_type="smtp", diag_text="550 no")


def outcome(result, dsn, notify=0, original="", relay="mx[192.0.2.1]:25", address="u@example.com"):
    return Outcome(Recipient(address, original, 4, "rfc822;u@example.com", notify), result, dsn, relay, STATS)


def dispose(system, one, flags=SUCCESS, filter_parameter=""):
    """The result of disposing of `one`, and the record that its recipient has in the queue file then."""
    queue = Queue("")
    with queue.create("active", now=T) as file:
        file.write(encode_record("S", b"me") + encode_record("R", b"u@example.com"))

        async def main():
            reporter = Reporter.of(system.view(), filter_parameter)
            request = DeliveryRequest(
                flags, "active", "Q", 0, 0, "example.com", "", 0, "me", recipients=[one.recipient]
            )
            disposition = Disposition(reporter, request, file)
            assert disposition.unreported() == [one.recipient]
            result = await disposition.dispose(one)
            assert disposition.unreported() == []
            reporter.close()
            return result

        result = system.run(main())
        file.seek(0)
        return result, [record.kind for record in RecordFile(file, file.path)][1]


@pytest.fixture
def system(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains =") as mail_system:
        yield mail_system


def services(system, *names, answer=None):
    for name in names:
        system.service(f"private/{name}", bounce.ANNOUNCEMENT, answer)


# Delivered


def test_sent(system):
    assert dispose(system, outcome("sent", DSN("2.0.0", "relayed", "250 ok"))) == (0, "D")
    assert system.log == [QUEUED + "2.0.0, status=sent (250 ok)"]
    assert system.seen == []


def test_sent_is_marked_only_on_request(system):
    assert dispose(system, outcome("sent", DSN("2.0.0", "relayed", "ok")), flags=0) == (0, "R")


def test_sent_with_another_class_of_status(system):
    dispose(system, outcome("sent", DSN("5.0.0", "relayed", "ok")))
    assert system.log == ['warning: sent: ignoring dsn code "5.0.0"', QUEUED + "2.0.0, status=sent (ok)"]


def test_success_report_goes_to_the_trace_log(system):
    services(system, "trace")
    assert dispose(system, outcome("sent", DSN("2.0.0", "", "ok"), NOTIFY_SUCCESS)) == (0, "D")
    assert system.requests("private/trace") == [
        {
            "nrequest": "0",
            "flags": "0",
            "queue_id": "Q",
            "original_recipient": "",
            "recipient": "u@example.com",
            "offset": "4",
            "dsn_orig_rcpt": "rfc822;u@example.com",
            "notify_flags": str(NOTIFY_SUCCESS),
            "status": "2.0.0",
            "diag_type": "",
            "diag_text": "",
            "mta_type": "",
            "mta_mname": "",
            "action": "delivered",
            "reason": "delivery via mx[192.0.2.1]:25: ok",
        }
    ]
    assert system.log == [QUEUED + "2.0.0, status=sent (ok)"]


def test_recorded_delivery_with_success_report_is_traced_twice(system):
    services(system, "trace")
    dispose(system, outcome("sent", DSN("2.0.0", "relayed", "ok"), NOTIFY_SUCCESS), SUCCESS | RECORD)
    assert [r["flags"] for r in system.requests("private/trace")] == [str(RECORD)] * 2


@pytest.mark.parametrize(("notify", "traced"), [(0, 1), (NOTIFY_DELAY, 1), (NOTIFY_FAILURE, 0)])
def test_success_after_a_delay_notice(system, notify, traced):
    services(system, "trace")
    dispose(system, outcome("sent", DSN("2.0.0", "relayed", "ok"), notify), SUCCESS | RECORD_DELAYED_SENT)
    assert len(system.requests("private/trace")) == traced


def test_success_without_trace_service_is_deferred(system):
    services(system, "defer")
    assert dispose(system, outcome("sent", DSN("2.0.0", "relayed", "ok"), NOTIFY_SUCCESS)) == (-1, "R")
    assert system.log == [
        "warning: connect to private/trace: No such file or directory",
        "warning: Q: trace service failure",
        QUEUED + "4.3.0, status=deferred (Q: trace service failed)",
    ]
    [sent] = system.requests("private/defer")
    assert (sent["status"], sent["action"], sent["reason"]) == ("4.3.0", "delayed", "Q: trace service failed")


# Deferred


def test_defer(system):
    services(system, "defer")
    assert dispose(system, outcome("deferred", SOFT)) == (-1, "R")
    assert system.log == [QUEUED + "4.4.1, status=deferred (connect: timed out)"]
    [sent] = system.requests("private/defer")
    assert (sent["action"], sent["reason"]) == ("delayed", "connect: timed out")


def test_defer_without_service_is_still_deferred(system):
    assert dispose(system, outcome("deferred", SOFT)) == (-1, "R")
    assert system.log == [
        "warning: connect to private/defer: No such file or directory",
        "warning: Q: defer service failure",
        QUEUED + "4.4.1, status=deferred (connect: timed out)",
    ]


def test_defer_with_another_class_of_status(system):
    services(system, "defer")
    dispose(system, outcome("deferred", DSN("5.1.1", reason="x")))
    assert system.log[0] == 'warning: defer_append: ignoring dsn code "5.1.1"'
    assert system.requests("private/defer")[0]["status"] == "4.0.0"


def test_recorded_deferral(system):
    services(system, "defer")
    services(system, "trace", answer=status(-1))
    assert dispose(system, outcome("deferred", SOFT), RECORD) == (-1, "R")
    assert system.log == [
        QUEUED + "4.4.1, status=deferred (connect: timed out)",
        "warning: Q: trace service failure",
        "warning: Q: trace service failure",
    ]


def test_deferred_domain_is_told_to_the_flush_service(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com") as system:
        services(system, "defer")
        system.service("public/flush", flush.ANNOUNCEMENT)
        dispose(system, outcome("deferred", SOFT))
        assert system.requests("public/flush") == [{"request": "add", "site": "example.com", "queue_id": "Q"}]
        dispose(system, outcome("deferred", SOFT, address="u@"))
        dispose(system, outcome("deferred", SOFT, address="u@example.net"))
        assert len(system.requests("public/flush")) == 1


def test_flush_service_that_fails(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains = example.com") as system:
        services(system, "defer")
        system.service("public/flush", flush.ANNOUNCEMENT, status(flush.BAD))
        assert dispose(system, outcome("deferred", SOFT)) == (-1, "R")
        assert system.log[-1] == "warning: Q: flush service failure"


# Bounced


def test_bounce(system):
    services(system, "bounce")
    assert dispose(system, outcome("bounced", HARD), flags=0) == (0, "D")
    assert system.log == [QUEUED + "5.1.1, status=bounced (no such user)"]
    [sent] = system.requests("private/bounce")
    assert (sent["action"], sent["diag_text"]) == ("failed", "550 no")


def test_soft_bounce(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains =\nsoft_bounce = yes") as system:
        services(system, "defer")
        assert dispose(system, outcome("bounced", HARD)) == (-1, "R")
        assert system.log == [QUEUED + "4.1.1, status=SOFTBOUNCE (no such user)"]
        [sent] = system.requests("private/defer")
        assert (sent["status"], sent["action"]) == ("4.1.1", "delayed")


def test_bounce_without_service_is_deferred(system):
    services(system, "defer")
    services(system, "bounce", answer=status(-1))
    assert dispose(system, outcome("bounced", HARD)) == (-1, "R")
    assert system.log == [QUEUED + "4.3.0, status=deferred (bounce or trace service failure)"]


def test_recorded_bounce_needs_the_trace_service(system):
    services(system, "defer", "bounce")
    assert dispose(system, outcome("bounced", HARD), RECORD) == (-1, "R")
    assert system.log[1] == "warning: Q: trace service failure"
    assert system.log[2] == QUEUED + "4.3.0, status=deferred (bounce or trace service failure)"


# Probes


@pytest.mark.parametrize(
    ("result", "dsn", "state", "word"),
    [
        ("sent", DSN("2.1.5", reason="ok"), "0", "deliverable"),
        ("deferred", SOFT, "1", "undeliverable"),
        ("bounced", HARD, "2", "undeliverable"),
    ],
)
def test_verification_probe(system, result, dsn, state, word):
    system.service("private/verify", verify.ANNOUNCEMENT)
    assert dispose(system, outcome(result, dsn, original="alias@example.com"), SUCCESS | MTA_VERIFY) == (0, "D")
    assert system.requests("private/verify") == [
        {"request": "update", "address": address, "recipient_status": state, "reason": dsn.reason}
        for address in ("alias@example.com", "u@example.com")
    ]
    assert system.log[0].endswith(f"dsn={dsn.status}, status={word} ({dsn.reason})")


def test_verification_probe_of_the_same_address_updates_once(system):
    system.service("private/verify", verify.ANNOUNCEMENT)
    dispose(system, outcome("sent", DSN("2.1.5"), original="u@example.com"), MTA_VERIFY)
    assert len(system.seen) == 1


def test_negative_results_are_not_cached_on_request(tmp_path):
    with MailSystem(tmp_path, "address_verify_negative_cache = no") as system:
        assert dispose(system, outcome("bounced", HARD), MTA_VERIFY) == (0, "D")
        assert system.log == [QUEUED + "5.1.1, status=undeliverable-but-not-cached (no such user)"]


def test_verification_service_that_refuses(system):
    system.service("private/verify", verify.ANNOUNCEMENT, status(-1))
    assert dispose(system, outcome("bounced", HARD), MTA_VERIFY) == (-1, "R")
    assert system.log == ["warning: Q: verify service failure"]


@pytest.mark.parametrize(
    ("result", "dsn", "word"),
    [("sent", DSN("2.1.5", reason="ok"), "deliverable"), ("deferred", SOFT, "undeliverable"), ("bounced", HARD, "un")],
)
def test_user_probe(system, result, dsn, word):
    services(system, "trace")
    assert dispose(system, outcome(result, dsn, relay="none"), SUCCESS | USER_VERIFY) == (0, "D")
    [sent] = system.requests("private/trace")
    assert sent["action"].startswith(word)
    assert sent["reason"] == dsn.reason  # no relay, no "delivery via"
    assert f"status={sent['action']} (" in system.log[0]


# The delivery status filter


def filtered(tmp_path, rules, one, **options):
    (tmp_path / "filter").write_text(rules)
    settings = f"default_delivery_status_filter = regexp:{tmp_path}/filter\nfast_flush_domains =\n"
    with MailSystem(tmp_path, settings) as system:
        services(system, "bounce", "defer")
        return dispose(system, one, filter_parameter="smtp_delivery_status_filter", **options), system


def test_filter_makes_a_bounce_a_deferral(tmp_path):
    result, system = filtered(tmp_path, "/^5\\.1\\.1 (.*)/ 4.1.1 later: $1\n", outcome("bounced", HARD))
    assert result == (-1, "R")
    assert system.log == [QUEUED + "4.1.1, status=deferred (later: no such user)"]
    [sent] = system.requests("private/defer")
    assert (sent["action"], sent["diag_text"]) == ("delayed", "550 no")


def test_filter_makes_a_deferral_a_bounce(tmp_path):
    result, system = filtered(tmp_path, "/^4.*/ 5.4.1 never\n", outcome("deferred", SOFT))
    assert result == (0, "D")
    assert system.log == [QUEUED + "5.4.1, status=bounced (never)"]


def test_filter_may_not_make_a_failure_a_success(tmp_path):
    _, system = filtered(tmp_path, "/^4.*/ 2.0.0 fine\n", outcome("deferred", SOFT))
    assert system.log == [
        "warning: smtp_delivery_status_filter: bad status code: 2.0.0 fine",
        QUEUED + "4.4.1, status=deferred (connect: timed out)",
    ]


def test_filter_changes_a_success(tmp_path):
    _, system = filtered(tmp_path, "/^2.*/ 2.9.9 fine\n", outcome("sent", DSN("2.0.0", "relayed", "x")))
    assert system.log == [QUEUED + "2.9.9, status=sent (fine)"]


def test_filter_that_cannot_answer_is_ignored(tmp_path):
    with MailSystem(tmp_path, "fast_flush_domains =\nsmtp_delivery_status_filter = fail:x") as system:
        services(system, "bounce")
        assert dispose(system, outcome("bounced", HARD), filter_parameter="smtp_delivery_status_filter") == (0, "D")
        assert system.log[-1] == QUEUED + "5.1.1, status=bounced (no such user)"


# Parameters


def test_bad_log_format(tmp_path):
    with MailSystem(tmp_path, "info_log_address_format = both") as system:
        with pytest.raises(FatalError) as caught:
            Reporter.of(system.view())
        assert str(caught.value) == 'invalid parameter setting "info_log_address_format = both"'


def test_names_of_services_are_parameters(tmp_path):
    with MailSystem(tmp_path, "defer_service_name = later\nfast_flush_domains =") as system:
        services(system, "later")
        dispose(system, outcome("deferred", SOFT))
        assert len(system.requests("private/later")) == 1
