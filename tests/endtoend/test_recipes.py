"""docs/oauth.md: every recipe is followed as it stands there, block by block, in a real Postfix with our smtp, in a
chroot jail and without. The providers are tests/endtoend/relays.py."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_postfix import PYTHON, REPOSITORY, RealPostfix, releases

from tests.endtoend.relays import CODE, PASSWORD, SECRET
from tests.sasl.test_secrecy import forms

pytestmark = pytest.mark.real

PAGE = (REPOSITORY / "docs/oauth.md").read_text()
RECIPES = dict(re.findall(r"^### (.*)\n((?:(?!^##).*\n)*)", PAGE, re.M))
EXPECTED = {
    # what is asked at the token endpoint, and by which mechanism of which server the mail goes out
    "Gmail": ("authorization_code refresh_token", "oauth2.googleapis.com/token", "10.0.1.2 XOAUTH2"),
    "Microsoft 365 and Outlook": (
        "urn:ietf:params:oauth:grant-type:device_code refresh_token",
        "login.microsoftonline.com/organizations/oauth2/v2.0/token",
        "10.0.1.3 XOAUTH2",
    ),
    "Microsoft 365, an application without a user": (
        "client_credentials",
        "login.microsoftonline.com/organizations/oauth2/v2.0/token",
        "10.0.1.3 XOAUTH2",
    ),
    "Other providers": ("authorization_code refresh_token", "idp.example/token", "10.0.1.4 OAUTHBEARER"),
    "Amazon SES, and relays with a password": ("", "", "10.0.1.5 PLAIN"),
}
ZONE = [
    *(f"{name} A 10.0.1.1" for name in ("oauth2.googleapis.com", "login.microsoftonline.com", "idp.example")),
    "smtp.gmail.com A 10.0.1.2",
    "smtp.office365.com A 10.0.1.3",
    "smtp.idp.example A 10.0.1.4",
    "email-smtp.eu-west-1.amazonaws.com A 10.0.1.5",
]

TALKATIVE = "-v -v -o debug_peer_list=0.0.0.0/0 -o debug_peer_level=9 -o postfixpy_session_trace_directory=sessions"
"""Everything that smtp can be made to say: no secret may be in it."""


@pytest.fixture(scope="module")
def certificate(module_path: Path) -> Path:
    """A certificate for all of them, and its key; it is its own authority."""
    names = [line.split()[0] for line in ZONE]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=test", "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    subprocess.run(
        [*command, "-keyout", "key.pem", "-out", "cert.pem"], check=True, capture_output=True, cwd=module_path
    )
    path = module_path / "both.pem"
    path.write_text((module_path / "cert.pem").read_text() + (module_path / "key.pem").read_text())
    return path


def blocks(recipe: str) -> Iterator[tuple[str, str]]:
    """The indented blocks: ("main.cf's path", its text), or ("", commands)."""
    for block in re.findall(r"(?:^    .*\n)+", RECIPES[recipe], re.M):
        text = re.sub(r"^    ", "", block, flags=re.M)
        path, _, rest = text.partition("\n")
        yield (path[2:], rest) if path.startswith("# /") else ("", text)


def consent(system: RealPostfix, command: str) -> None:
    """Run a command; where it asks for the address that a browser ends at, the user agrees."""
    process = system.popen("sh", "-c", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said = ""
    while line := process.stdout.readline():
        said += line
        if state := re.search(r"[?&]state=([\w-]+)", line):
            process.stdin.write(f"http://127.0.0.1:54332/oauth2_result?code={CODE}&state={state[1]}\n")
            process.stdin.flush()
    assert process.wait(30) == 0, said


def follow(system: RealPostfix, recipe: str, tokens: str) -> None:
    """Do what the recipe says. `tokens` is where /etc/tokens is for the service."""
    words = {"ID": "the-client", "SECRET": SECRET, "TENANT": "organizations", "SCOPE": "mail"}
    words |= {"USER": "me@example.com", "PASSWORD": PASSWORD}

    def fill(text: str) -> str:
        text = text.replace("--client-secret-file SECRET", "--client-secret-file /root/secret")
        return re.sub(rf"\b({'|'.join(words)})\b", lambda found: words[found[1]], text)

    def place(text: str) -> str:
        return text.replace("/etc/tokens", tokens)

    for path, text in blocks(recipe):
        if path == "/etc/postfix/main.cf":
            main = system.path(path).read_text().replace("smtp_tls_security_level = \n", "")
            system.path(path).write_text(main + text)
        elif path:
            system.path(place(path)).write_text(fill(text))
        else:
            for command in re.sub(r"\\\n +", "", text).splitlines():
                consent(system, place(fill(command)))


@pytest.mark.parametrize("chroot", [False, True], ids=["plain", "chroot"])
@pytest.mark.parametrize("recipe", EXPECTED)
def test_recipe(recipe: str, chroot: bool, certificate: Path) -> None:
    row = f"smtp unix - - {'y' if chroot else 'n'} - - smtp {TALKATIVE}"
    system = RealPostfix(releases()[-1] if chroot else "3.7", ours=["smtp"], zone=ZONE, rows=[row])
    authorities = system.path("/etc/ssl/certs/ca-certificates.crt")
    authorities.parent.mkdir(parents=True, exist_ok=True)
    authorities.unlink(missing_ok=True)
    authorities.write_bytes((certificate.parent / "cert.pem").read_bytes())
    system.path("/tmp/both.pem").write_bytes(certificate.read_bytes())
    system.path("/root").mkdir(exist_ok=True)
    system.path("/root/secret").write_text(f"{SECRET}\n")
    program = system.path("/usr/bin/postfixpy")
    program.write_text(f'#!/bin/sh\nexec {PYTHON} -I {REPOSITORY}/postfixpy/__main__.py "$@"\n')
    program.chmod(0o755)
    servers = system.popen(PYTHON, f"{REPOSITORY}/tests/endtoend/relays.py", "/tmp/both.pem", stdout=subprocess.PIPE)
    assert servers.stdout.readline() == "ready\n"
    sessions = system.path("/var/spool/postfix/sessions")
    sessions.mkdir()
    sessions.chmod(0o777)
    follow(system, recipe, "/var/spool/postfix/etc/tokens" if chroot else "/etc/tokens")
    with system:
        system.send("me@example.com", "b@elsewhere.example")
        system.send("me@example.com", "c@elsewhere.example")
        system.wait(lambda: len(re.findall(r"status=\w+", system.text())) >= 2, "the deliveries")
        assert re.findall(r"status=(\w+)", system.text()) == ["sent", "sent"], system.text()
        assert system.troubles() == []
        log = system.text()
        traces = (sessions / "smtp.jsonl").read_text()
        system.kill(servers)
        events = [json.loads(line) for line in servers.stdout]
    grants, endpoint, way = EXPECTED[recipe]
    asked = [event for event in events if event.get("grant")]
    assert list(dict.fromkeys(event["grant"] for event in asked)) == grants.split()
    assert {event["host"] + event["path"] for event in asked} == ({endpoint} if endpoint else set())
    assert sum(event["grant"] in ("refresh_token", "client_credentials") for event in asked) == bool(grants)  # once
    sent = [f"{event['relay']} {event['mechanism']}" for event in events if event.get("mechanism")]
    assert sent and set(sent) == {way}
    assert [event["mail"] for event in events if "mail" in event] == ["me@example.com"] * 2
    assert "AUTH" in log and "AUTH" in traces
    shown = log + traces
    for secret in ("-of-mine", PASSWORD, SECRET):
        assert not any(form in shown for form in forms(secret)), secret


def test_no_recipe_is_left_out() -> None:
    assert list(RECIPES) == list(EXPECTED)
