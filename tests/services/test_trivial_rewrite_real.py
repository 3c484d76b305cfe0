"""Ours and the real trivial-rewrite(8), side by side: the same generated configurations and addresses, no difference.

The number of configurations is POSTFIXPY_ROUNDS (default 15); each gets about a hundred addresses. POSTFIXPY_SEED is
the first seed.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest

from postfixpy import log
from postfixpy.config import load
from postfixpy.ipc.attributes import Pair, encode, parse
from postfixpy.ipc.rewrite import RESOLVE_CLASS_DEFAULT, RESOLVE_CLASS_LOCAL, Resolved, RewriteClient
from postfixpy.ipc.service import Context
from postfixpy.services.trivial_rewrite import TrivialRewrite

from .real_daemon import DAEMONS, RealDaemon

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not (DAEMONS / "trivial-rewrite").exists(), reason="no Postfix here"),
    pytest.mark.timeout(600),
]

ROUNDS = int(os.environ.get("POSTFIXPY_ROUNDS", "15"))
FIRST = int(os.environ.get("POSTFIXPY_SEED", "0"))
ADDRESSES = 100

DOMAINS = (
    *("example.com", "sub.example.com", "deep.sub.example.com", "alias.test", "mailbox.test", "relay.test"),
    *("a.relay.test", "other.net", "x.other.net", "localhost", "host", "h.example.com", "moved.test", "broken.test"),
    *("[127.0.0.1]", "[10.9.8.7]", "[IPv6:::1]", "[::1]", "[1.2.3]", "127.0.0.1", "10.9.8.7", "1.2.3.4.5", "[host]"),
    *("bücher.example", "-bad-.test", "a..b", "", ".", "example.com.", "example.com..", "EXAMPLE.com", "fail.test"),
    *("x_y.test", "12345", "a.b-", "é", "[127.0.0.1", "two words", "longlabel" * 8 + ".test"),
)
LOCALS = (
    *("joe", "joe+ext", "joe-ext", "a.b", "postmaster", "MAILER-DAEMON", "", "-dash", "two words", "a%b", "a!b", "a@b"),
    *("a%b%c", "x!y!z", '"', "back\\slash", "(comment)", "é", "joe+", "+ext", "a,b", "x;y", "a:b", "<joe>", "a b@c.d"),
    *(
        "u%other.net",
        "other.net!u",
        "u@other.net",
        "u%example.com",
        "u@example.com",
        ".",
        "..",
        "a.",
        ".a",
        "\xff\udcff",
    ),
)


def an_address(rng: random.Random) -> str:
    shape = rng.randrange(12)
    local, domain = rng.choice(LOCALS), rng.choice(DOMAINS)
    if shape == 0:
        return local
    if shape == 1:
        return f"@{rng.choice(DOMAINS)},@{domain}:{local}@{rng.choice(DOMAINS)}"
    if shape == 2:
        return f"{local}%{domain}@{rng.choice(DOMAINS)}"
    if shape == 3:
        return f"{domain}!{local}"
    if shape == 4:
        return f"{domain}!{local}@{rng.choice(DOMAINS)}"
    if shape == 5:
        return f'"{local}"@{domain}'
    if shape == 6:
        return "".join(rng.choice('ab.@!%"\\()<>,;:[] ') for _ in range(rng.randrange(1, 14)))
    return f"{local}@{domain}"


def a_transport_table(rng: random.Random) -> str:
    keys = [
        *(
            "joe@example.com",
            "joe+ext@other.net",
            "example.com",
            ".example.com",
            ".other.net",
            "other.net",
            "relay.test",
        ),
        *(".test", "test", "a.relay.test", "moved.test", '"two words"@other.net', "a%b@other.net", "localhost"),
    ]
    values = ["smtp:next.test", "smtp:", ":", ":[hop]:25", "error:no such thing", "error:", "retry:", "x", "slow:a:b:c"]
    lines = [f"{key} {rng.choice(values)}" for key in rng.sample(keys, rng.randrange(len(keys)))]
    if rng.random() < 0.4:
        lines.append(f"* {rng.choice(values)}")
    return "".join(line + "\n" for line in lines)


def inline(lines: list[str]) -> str:
    return "inline:{" + ", ".join(f"{{ {line} }}" for line in lines) + "}" if lines else ""


def a_configuration(rng: random.Random, tables: Path) -> dict[str, str]:
    yes = lambda: rng.choice(("yes", "no"))  # noqa: E731
    maybe = lambda text, chance=0.5: text if rng.random() < chance else ""  # noqa: E731
    relayhost = lambda: rng.choice(("", "", "[relay.host]", "relay.host:587"))  # noqa: E731
    by_sender = ["s@example.com = [s.host]", "@other.net = smtp:x", "<> = null.hop", "s = local.hop", "d@d = DUNNO"]
    transports = ("smtp", "lmtp:unix:/some/socket", "relay:[fixed.host]", "error:5.1.1 nothing here", "local:h")
    out = {
        "myhostname": "h.example.com",
        "mydestination": rng.choice(
            ("", "$myhostname, localhost, example.com", "example.com, host", "inline:{{example.com=1}}, fail:temporary")
        ),
        "inet_interfaces": rng.choice(("all", "loopback-only")),
        "proxy_interfaces": maybe("10.9.8.7"),
        "myorigin": rng.choice(("$myhostname", "example.com", "host")),
        "append_at_myorigin": yes(),
        "append_dot_mydomain": yes(),
        "swap_bangpath": yes(),
        "allow_percent_hack": yes(),
        "resolve_dequoted_address": yes(),
        "resolve_null_domain": yes(),
        "resolve_numeric_domain": yes(),
        "allow_min_user": yes(),
        "show_user_unknown_table_name": yes(),
        "smtputf8_enable": yes(),
        "helpful_warnings": yes(),
        "recipient_delimiter": rng.choice(("", "+", "+-")),
        "remote_header_rewrite_domain": rng.choice(("", "domain.invalid", "invalid")),
        "empty_address_recipient": rng.choice(("MAILER-DAEMON", "bounces@other.net", "x@alias.test")),
        "virtual_alias_domains": maybe("alias.test") + maybe(" mailbox.test example.com", 0.2) + maybe(" fail:no", 0.1),
        "virtual_mailbox_domains": maybe("mailbox.test") + maybe(" relay.test", 0.2) + maybe(" fail:no", 0.1),
        "relay_domains": maybe("relay.test") + maybe(" .other.net alias.test", 0.2) + maybe(" fail:no", 0.1),
        "parent_domain_matches_subdomains": rng.choice(("", "relay_domains", "relay_domains transport_maps")),
        "transport_maps": maybe(f"texthash:{tables}/transport", 0.8) + maybe(" fail:no", 0.1),
        "relayhost": relayhost(),
        "address_verify_relayhost": relayhost(),
        "address_verify_transport_maps": rng.choice(("", f"texthash:{tables}/verify")),
        "sender_dependent_relayhost_maps": maybe(inline(by_sender)) + maybe(" fail:no", 0.1),
        "sender_dependent_default_transport_maps": maybe(inline(by_sender)) + maybe(" fail:no", 0.1),
        "relocated_maps": maybe("inline:{{joe@moved.test=new@new.test}, {@moved.test=elsewhere}}", 0.3),
    }
    for name in ("local", "virtual", "relay", "default"):
        out[f"{name}_transport"] = rng.choice(transports)
        if rng.random() < 0.5:
            out[f"address_verify_{name}_transport"] = rng.choice((*transports, ":only.nexthop"))
    return out


def requests(rng: random.Random) -> list[list[Pair]]:
    out: list[list[Pair]] = []
    senders = ("", "s@example.com", "t+u@other.net", "d@d", "s", "nobody@no.where")
    for _ in range(ADDRESSES):
        address = an_address(rng)
        if address.lstrip(" ").startswith("!"):  # the real one then forgets the spaces between words: see rewrite.py
            continue
        if rng.random() < 0.35 and address.strip():
            rule = rng.choice(("local", "remote"))
            out.append([("request", "rewrite"), ("rule", rule), ("address", address)])
        else:
            kind = rng.choice(("resolve", "resolve", "verify"))
            out.append([("request", kind), ("sender", rng.choice(senders)), ("address", address)])
    return out


def ask_real(daemon: RealDaemon, questions: list[list[Pair]]) -> list[tuple[list[Pair], list[str]]]:
    answers = []
    with daemon.connect() as client:
        buffer = b""

        def read() -> list[Pair]:
            nonlocal buffer
            while (parsed := parse(buffer)) is None:
                try:
                    data = client.recv(65536)
                except OSError:
                    data = b""
                assert data, f"the real one hung up: {daemon.log()}"
                buffer += data
            buffer = buffer[parsed[1] :]
            return parsed[0]

        answers.append((read(), daemon.log()))
        for question in questions:
            client.sendall(encode(question))
            answer = read()
            answers.append((answer, daemon.log()))
    return answers


async def ask_ours(service: TrivialRewrite, questions: list[list[Pair]]) -> list[tuple[list[Pair], list[str]]]:
    answers = []
    lines: list[str] = []
    previous = log.set_sink(
        lambda severity, text: lines.append(printable(text if severity == "info" else f"{severity}: {text}"))
    )
    try:
        await service.pre_jail()
        await service.start()
        answers.append(([("protocol", "trivial_rewrite_protocol")], list(lines)))
        for question in questions:
            lines.clear()
            reply = await service.answer(question)
            assert reply is not None
            parsed = parse(reply.encode())
            assert parsed is not None
            answers.append((parsed[0], list(lines)))
    finally:
        log.set_sink(previous)
    return answers


@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
def test_no_difference(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    config, queue = tmp_path / "etc", tmp_path / "queue"
    (tmp_path / "data").mkdir()
    config.mkdir()
    for name in ("transport", "verify"):
        (config / name).write_text(a_transport_table(rng))
    settings = a_configuration(rng, config)
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {tmp_path}/data\n"
        f"maillog_file = {tmp_path}/log\nmaillog_file_prefixes = {tmp_path}\n{text}"
    )
    questions = requests(rng)
    with RealDaemon("trivial-rewrite", "rewrite", config, queue) as daemon:
        real = ask_real(daemon, questions)
    view = load(str(config), release="3.7").view(process_name="trivial-rewrite", service_name="rewrite")
    service = TrivialRewrite(Context(view.configuration, view, "trivial-rewrite", "rewrite"))
    ours = asyncio.run(ask_ours(service, questions))
    for question, expected, got in zip([[], *questions], real, ours, strict=True):
        assert got[0] == expected[0], f"{question}\n{text}\nreal log: {expected[1]}\nour log: {got[1]}"
        assert shown(got[1]) == shown(expected[1]), f"{question}\n{text}"


def printable(text: str) -> str:
    """As the log shows it."""
    return log.printable(text).encode("utf-8", "replace").decode()


def shown(lines: list[str]) -> list[str]:
    """Log lines without those of tables and of the IDNA library, which have their own comparisons or none."""
    others = ("lookup error", "table lookup problem", "midna_domain_to_ascii")
    return [line for line in lines if not any(other in line for other in others)]


def test_our_client_and_the_real_service(tmp_path: Path) -> None:
    config, queue = tmp_path / "etc", tmp_path / "queue"
    (tmp_path / "data").mkdir()
    config.mkdir()
    (config / "main.cf").write_text(
        f"compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {tmp_path}/data\n"
        f"maillog_file = {tmp_path}/log\nmaillog_file_prefixes = {tmp_path}\n"
        "myhostname = h.example.com\nmydestination = h.example.com\n"
    )

    async def talk(path: str) -> object:
        client = RewriteClient(path)
        try:
            local = await client.resolve("", "joe@h.example.com")
            return await client.rewrite("local", "joe"), local, await client.resolve("", "x@y.test", verify=True)
        finally:
            client.close()

    with RealDaemon("trivial-rewrite", "rewrite", config, queue) as daemon:
        assert asyncio.run(talk(str(daemon.path))) == (
            "joe@h.example.com",
            Resolved("local", "h.example.com", "joe@h.example.com", RESOLVE_CLASS_LOCAL),
            Resolved("smtp", "y.test", "x@y.test", RESOLVE_CLASS_DEFAULT),
        )
        assert daemon.log() == []
