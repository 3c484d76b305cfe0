"""The service trivial-rewrite(8): questions and answers as on the wire, and its parameters."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.config import load
from postfixpy.errors import FatalError
from postfixpy.ipc.attributes import Pair, ProtocolError
from postfixpy.ipc.rewrite import Resolved, ResolveReply, Rewritten
from postfixpy.ipc.service import Context
from postfixpy.lookup.cdb import build
from postfixpy.services.trivial_rewrite import TrivialRewrite

BASE = """
compatibility_level = 3.6
myhostname = h.example.com
mydestination = $myhostname, example.com
inet_interfaces = loopback-only
relay_domains = relay.test
virtual_alias_domains = alias.test
virtual_mailbox_domains = mailbox.test
"""


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


def service(
    directory: Path, settings: str = "", clock: Clock | None = None, words: list[str] | None = None
) -> TrivialRewrite:
    (directory / "main.cf").write_text(BASE + settings)
    view = load(str(directory)).view(process_name="trivial-rewrite", service_name="rewrite")
    context = Context(view.configuration, view, "trivial-rewrite", "rewrite", words=words or [])
    made = TrivialRewrite(context, clock or Clock())
    asyncio.run(made.pre_jail())
    asyncio.run(made.start())
    return made


def resolve(made: TrivialRewrite, address: str, sender: str = "me@example.com", request: str = "resolve") -> Resolved:
    reply = asyncio.run(made.answer([("request", request), ("sender", sender), ("address", address)]))
    assert isinstance(reply, ResolveReply)
    return Resolved(reply.transport, reply.nexthop, reply.recipient, reply.flags)


def test_rewrite(tmp_path: Path, logged: list[str]) -> None:
    made = service(tmp_path)
    request: list[Pair] = [("request", "rewrite"), ("rule", "local"), ("address", "joe")]
    assert asyncio.run(made.answer(request)) == Rewritten(0, "joe@h.example.com")
    request[1] = ("rule", "remote")
    assert asyncio.run(made.answer(request)) == Rewritten(0, "joe")
    request[1] = ("rule", "martian")
    assert asyncio.run(made.answer(request)) is None
    assert logged == ["warning: unknown context: martian"]


def test_null_address_is_odd(tmp_path: Path, logged: list[str]) -> None:
    request: list[Pair] = [("request", "rewrite"), ("rule", "local"), ("address", "")]
    assert asyncio.run(service(tmp_path).answer(request)) == Rewritten(0, "")
    assert logged == ["warning: rewrite_addr: null address"]


def test_what_is_not_understood(tmp_path: Path, logged: list[str]) -> None:
    made = service(tmp_path)
    assert asyncio.run(made.answer([("request", "x" * 40)])) is None
    assert logged == ["warning: bad command " + "x" * 30]
    with pytest.raises(ProtocolError, match="missing attribute address"):
        asyncio.run(made.answer([("request", "resolve"), ("sender", "")]))


@pytest.mark.parametrize(
    ("address", "route"),
    [
        ("joe@example.com", Resolved("local", "h.example.com", "joe@example.com", 0x100)),
        ("joe", Resolved("local", "h.example.com", "joe@h.example.com", 0x100)),
        ("", Resolved("local", "h.example.com", "MAILER-DAEMON@h.example.com", 0x100)),
        ("joe@[127.0.0.1]", Resolved("local", "h.example.com", "joe@[127.0.0.1]", 0x100)),
        ("joe@127.0.0.1", Resolved("UNSET", "UNSET", "joe@127.0.0.1", 0x1004)),
        ("a%b.test@example.com", Resolved("smtp", "b.test", "a@b.test", 0x1000)),
        ("a%b.test@c.test", Resolved("smtp", "c.test", "a%b.test@c.test", 0x1002)),
        ("a@b.test@example.com", Resolved("smtp", "b.test", "a@b.test", 0x1000)),
        ("x@alias.test", Resolved("error", "5.1.1 User unknown in virtual alias table", "x@alias.test", 0x200)),
        ("x@mailbox.test", Resolved("virtual", "mailbox.test", "x@mailbox.test", 0x400)),
        ("x@relay.test", Resolved("relay", "relay.test", "x@relay.test", 0x800)),
        ("x@sub.relay.test", Resolved("relay", "sub.relay.test", "x@sub.relay.test", 0x800)),
        ("x@other.test", Resolved("smtp", "other.test", "x@other.test", 0x1000)),
        ("-x@other.test", Resolved("smtp", "other.test", "-x@other.test", 0x1004)),
        ("x@bad..test", Resolved("UNSET", "UNSET", "x@bad..test", 0x1004)),
    ],
)
def test_classes(tmp_path: Path, logged: list[str], address: str, route: Resolved) -> None:
    found = resolve(service(tmp_path), address)
    if route.transport == "UNSET":
        found = Resolved("UNSET", "UNSET", found.recipient, found.flags)
    assert found == route
    assert logged == []


def test_relayhost_and_senders(tmp_path: Path, logged: list[str]) -> None:
    made = service(
        tmp_path,
        """
relayhost = [relay.host]
empty_address_relayhost_maps_lookup_key = <null>
sender_dependent_relayhost_maps = inline:{@s.test=[s.host], joe@s.test=DUNNO, <null>=[null.host]}
sender_dependent_default_transport_maps = inline:{@s.test=slow:fixed, <>=odd}
""",
    )
    assert resolve(made, "x@other.test").nexthop == "[relay.host]"
    assert resolve(made, "x@relay.test").nexthop == "[relay.host]"
    assert resolve(made, "x@other.test", "a@s.test") == Resolved("slow", "fixed", "x@other.test", 0x1000)
    assert resolve(made, "x@relay.test", "a@s.test") == Resolved("relay", "[s.host]", "x@relay.test", 0x800)
    assert resolve(made, "x@relay.test", "joe@s.test").nexthop == "[relay.host]"
    assert resolve(made, "x@other.test", "") == Resolved("odd", "[null.host]", "x@other.test", 0x1000)


def test_probes_have_their_own_routes(tmp_path: Path, logged: list[str]) -> None:
    made = service(
        tmp_path,
        """
relayhost = [relay.host]
address_verify_relayhost =
transport_maps = inline:{other.test=slow:}
address_verify_transport_maps = inline:{other.test=probe:}
""",
    )
    assert resolve(made, "x@other.test") == Resolved("slow", "other.test", "x@other.test", 0x1000)
    assert resolve(made, "x@other.test", request="verify") == Resolved("probe", "other.test", "x@other.test", 0x1000)
    assert resolve(made, "x@third.test", request="verify").nexthop == "third.test"


def test_relocated(tmp_path: Path, logged: list[str]) -> None:
    made = service(tmp_path, "relocated_maps = inline:{joe@example.com=joe@new.test}\n")
    assert resolve(made, "joe@example.com").nexthop == "5.1.6 User has moved to joe@new.test"
    bare = "relocated_prefix_enable = no\nrelocated_maps = inline:{{joe@example.com=5.1.1 gone}, {jim@example.com=x}}\n"
    made = service(tmp_path, bare)
    assert resolve(made, "joe@example.com").nexthop == "5.1.1 gone"
    assert resolve(made, "jim@example.com").nexthop == "5.2.0 Mailbox is unavailable"
    assert logged == ["warning: relocated_maps result must contain RFC 3463 status and text: 'x'"]


def test_a_table_that_fails_defers(tmp_path: Path, logged: list[str]) -> None:
    made = service(tmp_path, "transport_maps = fail:no\n")
    logged.clear()
    assert resolve(made, "x@other.test").flags == 0x1008
    assert logged[-1] == "warning: transport_maps lookup failure"


def test_domains_in_two_classes(tmp_path: Path, logged: list[str]) -> None:
    both = "virtual_alias_domains = example.com, two.test\nrelay_domains = two.test\n"
    made = service(tmp_path, both)
    logged.clear()
    resolve(made, "x@example.com")
    resolve(made, "x@two.test")
    assert logged == [
        "warning: do not list domain example.com in BOTH mydestination and virtual_alias_domains",
        "warning: do not list domain two.test in BOTH virtual_alias_domains and relay_domains",
    ]
    made = service(tmp_path, both + "helpful_warnings = no\n")
    logged.clear()
    resolve(made, "x@two.test")
    assert logged == []


def test_null_transport(tmp_path: Path, logged: list[str]) -> None:
    assert resolve(service(tmp_path, "default_transport = :hop\n"), "x@other.test").flags == 0x1008
    assert logged == [f"warning: file {tmp_path}/main.cf: parameter default_transport: null transport is not allowed"]


def test_arguments_are_refused(tmp_path: Path, logged: list[str]) -> None:
    with pytest.raises(FatalError, match="unexpected command-line argument: x"):
        service(tmp_path, words=["x"])


def test_changed_table_asks_clients_to_reconnect(tmp_path: Path, logged: list[str]) -> None:
    table = tmp_path / "transport"
    file = Path(f"{table}.cdb")
    file.write_bytes(build([(b"other.test", b"slow:")]))
    clock = Clock()
    made = service(tmp_path, f"transport_maps = cdb:{table}\n", clock)
    request: list[Pair] = [("request", "rewrite"), ("rule", "local"), ("address", "joe")]
    assert made.tables_changed() is None
    os.utime(file, (1, 1))
    assert asyncio.run(made.answer(request)) == Rewritten(0, "joe@h.example.com")
    clock.now = 10.5
    assert asyncio.run(made.answer(request)) == Rewritten(1, "joe@h.example.com")
    assert made.tables_changed() == f"cdb:{table}(0,lock|no_regsub|fold_fix|utf8_request)"


def test_old_default_is_announced(tmp_path: Path, logged: list[str]) -> None:
    made = service(tmp_path, "compatibility_level = 0\n")
    logged.clear()
    request: list[Pair] = [("request", "rewrite"), ("rule", "local"), ("address", "joe@host")]
    assert asyncio.run(made.answer(request)) == Rewritten(0, "joe@host.example.com")
    assert logged == [
        "info: using backwards-compatible default setting append_dot_mydomain=yes to rewrite "
        '"host" to "host.example.com"'
    ]
