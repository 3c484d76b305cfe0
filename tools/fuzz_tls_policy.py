#!/usr/bin/env python3
"""Random TLS policies, given to the real smtp(8) and to ours: both must take the same level and say the same words.

    tools/fuzz_tls_policy.py [--seed N] [--count N] [--release 3.11]     prints what differs; 1 if anything does

The invariant is stronger than "never weaker than Postfix": for every destination of every table the level, the attempt
to use TLS, the warnings and the outcome are equal. A run is one process with `count` requests, each for a domain of its
own; the server has no STARTTLS, so that the outcome (and with 3.11 the tls= field) tells the level. Needs root.
"""

import argparse
import difflib
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEVELS = ["none", "may", "encrypt", "fingerprint", "dane", "dane-only", "verify", "secure"]
ODD = ["halfdane", "Secure", "MAY", "must", "", "encrypt,", ",may", "0", "secure=yes"]
ATTRIBUTES = {
    "match": ["a.example", "hostname:nexthop", "", ":", "|", "AA:BB", "aabb|ccdd", "zz", "{a}", "dot-nexthop"],
    "ciphers": ["high", "medium", "", "strange", "export"],
    "protocols": ["", "TLSv1.2", "!SSLv2:!SSLv3", ">=TLSv1.2", "nonsense"],
    "exclude": ["", "RC4", "aNULL:eNULL", "+x"],
    "servername": ["a.example", "hostname", "nexthop", "", "a..b", "-a", "xn--a", "b" * 64 + ".example"],
    "tafile": ["", "/no/such"],
    "connection_reuse": ["yes", "no", "Yes", "", "maybe"],
    "enable_rpk": ["yes", "no", "NO", "", "1"],
    "policy_type": ["sts", "STS", "no-policy-found", "tlsa", ""],
    "policy_ttl": ["1", "2147483647", "2147483648", "-1", "", "1d", "0", "007"],
    "policy_domain": ["a.example", "", "a..b", "*.example"],
    "policy_string": ["x", ""],
    "mx_host_pattern": ["mx.server.example", "*.server.example", "other.example", ""],
    "policy_failure": ["sts-policy-invalid", "validation-failure", "x", ""],
    "colour": ["blue"],
    "": ["x"],
}
GLOBAL = [f"smtp_tls_security_level = {level}" for level in ["", *LEVELS[:3], "verify", "secure"]] + [
    "smtp_use_tls = yes",
    "smtp_enforce_tls = yes",
    "smtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no",
    "smtp_use_tls = yes\nsmtp_tls_per_site =",
]
SITE = ["NONE", "MAY", "MUST", "MUST_NOPEERMATCH", "may", "must", "", "SECURE", "none "]


def entry(rng: random.Random) -> str:
    """A random entry of smtp_tls_policy_maps."""
    words = [rng.choice(LEVELS if rng.random() < 0.9 else ODD)]
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        name = rng.choice(list(ATTRIBUTES))
        text = f"{name}={rng.choice(ATTRIBUTES[name])}"
        shape = rng.random()
        if shape < 0.1:
            text = f"{{ {text.replace('=', ' = ', 1)} }}"
        elif shape < 0.13:
            text = "{" + text
        elif shape < 0.16:
            text = text.upper().replace("=", " = ")
        words.append(text)
    return rng.choice([" ", ", ", ","]).join(words)


def scenario(rng: random.Random, count: int) -> str:
    """A scenario with a random configuration and `count` destinations."""
    per_site = rng.random() < 0.3
    tables, domains = [], []
    for number in range(count):
        domain = rng.choice(
            [f"d{number}.example", f"[d{number}.example]", f"sub.d{number}.example", f"d{number}.example:25"]
        )
        domains.append(domain)
        if per_site:
            tables.append(f"{rng.choice([domain, f'd{number}.example', f'mx.d{number}.example'])} {rng.choice(SITE)}")
        elif rng.random() < 0.9:
            key = rng.choice([domain, domain, f".d{number}.example", f"d{number}.example", f"mx.d{number}.example"])
            tables.append(f"{key} {entry(rng)}")
    name = "per_site" if per_site else "policy_maps"
    settings = [rng.choice(GLOBAL), f"smtp_tls_{name} = texthash:$config_directory/policy"]
    settings += rng.sample(
        ["smtp_tls_servername = a..b", "smtp_tls_fingerprint_cert_match = AA:BB", "smtp_dns_support_level = dnssec",
         "smtp_tls_enforce_sts_mx_patterns = no", "smtp_tls_trust_anchor_file = /no/such"],
        rng.choice([0, 0, 1]),
    )  # fmt: skip
    zone = [f"{prefix}d{n}.example A 127.0.0.11" for n in range(count) for prefix in ("", "sub.")]
    requests = [line for domain in domains for line in ("== request", f"nexthop = {domain}")]
    server = ["> 220 a ESMTP", "< EHLO", "> 250 a", "< MAIL", "> 250 ok", "< RCPT", "> 250 ok", "< DATA", "> 354 go"]
    lines = [
        "Random TLS policies.",
        "== main.cf",
        *settings,
        "== table policy",
        *tables,
        "== zone",
        ". NS a.root.",
        *zone,
    ]
    lines += ["== server 127.0.0.11:25", *server, "<data", "> 250 ok", "< QUIT", *requests]
    return "\n".join(lines) + "\n"


def normal(output: str) -> list[str]:
    """The lines of an output, with its connections in the order of their numbers."""
    blocks = re.split(r"^(?=wire )", output, flags=re.MULTILINE)
    last, *rest = re.split(r"^(?=log |result )", blocks[-1], maxsplit=1, flags=re.MULTILINE)
    numbered = [(int(found[1]), block) for block in [*blocks, last] if (found := re.match(r"wire \S+ (\d+)", block))]
    wires = [block for _, block in sorted(numbered) if block != blocks[-1] or block == last]
    lines = "".join([*wires, *rest]).splitlines()
    return [line for line in lines if "expected format: key whitespace value" not in line]  # said at each start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--release", default="3.11")
    options = parser.parse_args()
    text = scenario(random.Random(options.seed), options.count)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, f"seed-{options.seed}.txt")
        path.write_text(text)
        tool = [sys.executable, str(ROOT / "tools/record_smtp.py"), "--release", options.release, "--write", str(path)]
        done = subprocess.run(tool, check=False, capture_output=True, text=True)
        from postfixpy.migrate import replay_smtp
        from postfixpy.migrate import scenario as format

        found = format.parse(path.read_text())
        place = Path(directory, "ours")
        place.mkdir()
        ours = replay_smtp.replay(found, str(place), options.release)
        real = found.recorded.get(options.release)
    if real is None:
        print(done.stdout[-2000:])
        return 1
    one, other = normal(real), normal(ours)
    for line in list(difflib.unified_diff(one, other, "real", "ours", lineterm="", n=1))[:40]:
        print(line)
    equal = one == other
    verdict = "equal" if equal else "DIFFERENT"
    print(f"seed {options.seed}, Postfix {options.release}: {options.count} destinations, {verdict}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
