"""No credential is ever in a log, a transcript, a status, a session trace, an exception or what the objects show of
themselves; with debug_peer_list at its most verbose."""

import base64
import json
import os
import stat
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfixpy import config
from postfixpy.mail.delivery import DeliveryRequest, MessageStats, Recipient
from postfixpy.mail.outcome import Outcome
from postfixpy.sasl import choice
from postfixpy.sasl.mechanism import Credentials, Mechanism
from postfixpy.smtp import agent, notice
from postfixpy.smtp.content import ListSource
from postfixpy.smtp.delivery import Delivery
from postfixpy.smtp.effects import FetchToken
from postfixpy.smtp.memory import Clock, Memory
from postfixpy.smtp.peers import Network
from postfixpy.smtp.settings import Settings

USER, PASSWORD, TOKEN = "u5erna", "pa55w0rd-of-mine", "t0ken-0f-mine"
MECHANISMS = [kind.name for kind in (*choice.ORDER, *choice.BEARERS)]
ENDS = (
    ["> 235 ok", "< MAIL", "> 501 odd", "< QUIT", "> 221 bye"],
    ["> 535 5.7.8 no", "< QUIT", "> 221 bye"],
    ["> 334 !!", "< QUIT", "> 221 bye"],
    ["> 334 bm8=", "> 334 bm8=", "> 334 bm8=", "> 501 odd", "< QUIT", "> 221 bye"],
    ["close"],
)


def forms(secret: str) -> Iterator[str]:
    """A secret as it is, and in the parts of base64 that do not depend on what stands around it."""
    yield secret
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + secret.encode()).decode()
        yield encoded[4:-4] if len(encoded) > 12 else encoded


def deliver(directory: Path, mechanism: str, steps: list[str], password: str) -> tuple[list[bytes], list[str]]:
    """One delivery: what the client sent, and everything that could be shown to somebody."""
    (directory / "main.cf").write_text(
        "smtp_sasl_auth_enable = yes\nsmtp_sasl_security_options =\n"
        "debug_peer_list = static:all\ndebug_peer_level = 9\n"
        f"smtp_sasl_password_maps = static:{USER}:{password}\nnotify_classes = bounce, data, protocol, resource\n"
        f"smtp_sasl_auth_cache_name = proxy:internal:{directory}\npostfixpy_session_trace_directory = {directory}\n"
    )
    view = config.load(str(directory), release="3.11", profile="upstream").view(process_name="smtp")
    settings = Settings(view, interfaces=["127.0.0.1"])
    script = ["> 220 a ESMTP", "< EHLO", "> 250-a", f"> 250 AUTH {mechanism}", *steps]
    clock = Clock()
    outcomes: list[Outcome] = []
    memory = Memory(Network({"127.0.0.11:25": [script]}, clock), clock, lambda outcome: outcomes.append(outcome) or 0)  # type: ignore[func-returns-value]
    memory.fetch_token = lambda effect: (TOKEN, "")
    now = int(clock.now * 1_000_000)
    request = DeliveryRequest(
        3, "active", "ABC", 0, 20, "[127.0.0.11]", "7bit", 0, "s@client.example",
        stats=MessageStats(now, now, now), recipients=[Recipient("r@server.example", "", 1)],
    )  # fmt: skip
    delivery = Delivery(settings, request, ListSource([("N", b"Subject: x"), ("X", b"")]), clock)
    memory.run(agent.deliver(delivery))
    shown = [repr(outcomes), repr(delivery), repr(memory.notices), repr(FetchToken("f", USER, TOKEN).user)]
    for found in memory.notices:
        shown += notice.compose(view, found.peer, found.transcript, lmtp=False)
    shown += [json.dumps({"reason": outcome.dsn.reason, "diag": outcome.dsn.diag_text}) for outcome in outcomes]
    assert memory.traces, "a trace of the session"
    shown.append(json.dumps(memory.traces, ensure_ascii=False))
    sent = [chunk for _, peer in memory.network.peers for chunk in peer.chunks]
    return sent, shown


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_nothing_shows(mechanism: str, tmp_path: Path, log_lines: list[str]) -> None:
    bearer = mechanism in {kind.name for kind in choice.BEARERS}
    password = "oauth2:/etc/tokens/f" if bearer else PASSWORD
    sent: list[bytes] = []
    shown: list[str] = []
    secret = TOKEN if bearer else PASSWORD
    for number, end in enumerate(ENDS):
        for start in ([f"sasl {mechanism} {USER} {secret}"], ["< AUTH"]):
            directory = tmp_path / f"{number}{start[0][0] == '<'}"
            directory.mkdir()
            more_sent, more_shown = deliver(directory, mechanism, [*start, *end], password)
            sent += more_sent
            shown += more_shown
    everything = "\n".join([*shown, *log_lines])
    for form in (*forms(PASSWORD), *forms(TOKEN)):
        assert form not in everything
    for line in b"".join(sent).split(b"\r\n"):
        # A response is nowhere, whatever is in it.
        if len(line) > 8 and line.split(b" ")[0] not in (b"EHLO", b"AUTH", b"MAIL", b"RCPT", b"QUIT"):
            assert line.decode() not in everything
        if line.startswith(b"AUTH ") and line.count(b" ") == 2:
            assert line.split(b" ")[2].decode() not in everything
    assert "AUTH " in everything or mechanism in ("EXTERNAL", "GSSAPI")  # something was shown


def test_the_secrets_were_there_to_be_found(tmp_path: Path, log_lines: list[str]) -> None:
    """The search finds what it should, if it is there: on the wire."""
    sent, _ = deliver(tmp_path, "PLAIN", [f"sasl PLAIN {USER} {PASSWORD}", "> 235 ok"], PASSWORD)
    wire = b"".join(sent).decode()
    assert any(form in wire for form in forms(PASSWORD))


@pytest.mark.parametrize("kind", [kind for kind in (*choice.ORDER, *choice.BEARERS) if choice._installed(kind)])
def test_exceptions_do_not_show_it_either(kind: type[Mechanism]) -> None:
    for challenge in (b"", b"\xff", b"r=x,s=QSXC,i=4096", b'nonce="n",algorithm=md5-sess', b"NTLMSSP\0\x02\0\0\0"):
        text = ""
        try:
            found = kind(Credentials(USER, PASSWORD, host="h", token=TOKEN, external="x"))
            text += repr(found.credentials)
            found.initial()
            for _ in range(3):
                found.step(challenge)
        except Exception:
            text += traceback.format_exc()
        assert PASSWORD not in text and TOKEN not in text


def test_files_with_tokens_are_private(tmp_path: Path) -> None:
    from tests.sasl.provider import Provider, token
    from tests.sasl.test_oauth2 import World, run

    old = os.umask(0)
    try:
        with Provider(token(1)) as provider:
            world = World(tmp_path, provider)
            tokens = world.tokens()
            run(tokens.get(world.path))
            assert {stat.S_IMODE(path.stat().st_mode) for path in world.data.iterdir()} == {0o600}
            assert "access-1" not in repr(vars(tokens)["_defaults"])
            tokens.close()
    finally:
        os.umask(old)
