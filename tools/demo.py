"""make demo: a stock relay configuration, run without root, delivering real mail to the embedded sink.

Everything shown is what the commands print; at the end the program checks that each message ended as it should, and
exits with 1 when one did not.
"""

import sys
import tempfile
import textwrap
from pathlib import Path

from harness import FIXTURES, MailSystem, Sink

RULES = (
    "rcpt greylisted@* times=1 450 4.2.0 greylisted, come back later",
    "rcpt nobody@* 550 5.1.1 no such user here",
)
MESSAGE = "From: Ann <ann@example.com>\nSubject: {subject}\n\n{subject}, said Ann.\n"


def say(title: str) -> None:
    """A headline."""
    print(f"\n\033[1m== {title}\033[0m" if sys.stdout.isatty() else f"\n== {title}", flush=True)


def show(text: str) -> None:
    """What a program printed."""
    print(textwrap.indent(text.rstrip(), "   "), flush=True)


def main() -> int:
    """Run the demo; the exit status."""
    with tempfile.TemporaryDirectory(prefix="postfixpy-demo-") as name:
        directory = Path(name)
        sink = Sink(directory, *RULES)
        relay = f"[127.0.0.1]:{sink.port}"
        system = MailSystem(directory, "relay", relayhost=relay, smtp_tls_security_level="none")
        try:
            return demo(system, sink)
        finally:
            system.stop()
            sink.stop()


def demo(system: MailSystem, sink: Sink) -> int:
    """The story: submit, wait, flush, read."""
    say(f"The configuration: {FIXTURES.name}/relay, its next hop the embedded sink (postfixpy postconf -n)")
    show(system.check("postconf", "-n"))
    say("Starting it in the foreground, without root (postfixpy postfix start-fg)")
    system.start()
    say("Submitting four messages (postfixpy sendmail)")
    many = [f"user{n}@example.org" for n in range(1, 6)]
    for subject, recipients in (
        ("One recipient", ["bob@example.org"]),
        ("Five recipients", many),
        ("Deferred at first", ["greylisted@example.org"]),
        ("Refused", ["nobody@example.org"]),
    ):
        show(f"sendmail -f ann@example.com {' '.join(recipients)}    # Subject: {subject}")
        system.check("sendmail", "-f", "ann@example.com", *recipients, stdin=MESSAGE.format(subject=subject))

    log = system.log
    system.wait_for(lambda: log().count("status=sent") >= 7 and "status=deferred" in log(), "the first deliveries")
    system.wait_for(lambda: len(system.queued()) == 1, "only the deferred message in the queue")
    say("The queue while it waits (postfixpy mailq)")
    queue = system.check("mailq")
    show(queue)
    say("Asking for another try (postfixpy postqueue -f)")
    system.check("postqueue", "-f")
    system.wait_for(lambda: not system.queued(), "an empty queue")
    show(system.check("mailq"))
    system.stop()

    say("The log")
    show(log())
    say("What the sink received")
    bounces = []
    for delivery in sink.deliveries():
        subject = next(h for h in str(delivery["content"]).splitlines() if h.startswith("Subject:"))
        show(f"<{delivery['sender']}> -> {', '.join(map(str, delivery['recipients']))}  {subject}")  # type: ignore[call-overload]  # JSON
        if "Undelivered Mail" in subject:
            bounces.append(str(delivery["content"]))
    say("The notification that Ann got for the refused message")
    show("\n".join(bounces))

    got = sorted(sink.recipients())
    expected = sorted(["bob@example.org", *many, "greylisted@example.org", "ann@example.com"])
    ok = got == expected and len(bounces) == 1 and "no such user here" in bounces[0] and "greylisted" in queue
    say("Every message ended as it should: 7 delivered, 1 returned to its sender, queue empty" if ok else "FAILED")
    if not ok:
        print(f"expected {expected}\ngot      {got}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
