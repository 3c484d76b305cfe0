"""The kinds of cases of compare_tables.py: generated, each from a number, and those of real configurations."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from table_case import SUFFIXES, Case, Step, encoded
from table_databases import SERVED, sqlite
from table_lines import command_lines, files, messages, names
from table_rules import rules
from table_sources import aliases, indexed, networks, redirected, texthash

KINDS: dict[str, Callable[[random.Random, str], Case]] = {
    **{kind: indexed(kind) for kind in SUFFIXES},
    "texthash": texthash,
    "regexp": rules("regexp"),
    "pcre": rules("pcre"),
    "cidr": networks,
    "names": names,
    "aliases": aliases,
    "messages": messages,
    "files": files,
    "sqlite": sqlite,
    "redirected": redirected,
    **SERVED,
    "command_lines": command_lines,
}


def generated(kind: str, release: str, seed: int) -> Case:
    """The case of a number."""
    return KINDS[kind](random.Random(f"{kind} {seed}"), release)


NOT_TABLES = (".out", ".err", ".rc", ".tmpl", "main.cf", "master.cf", "SOURCE")
MAIL = [
    "Subject: Viagra at 50% off",
    "Received: from x.example.com (unknown [192.0.2.1]) by mx.example.org (Postfix) with ESMTP id 123",
    "X-Spam-Flag: YES",
    "Content-Type: application/octet-stream; name=x.exe",
    "From: user@example.com",
    "user+ext@example.com",
    "postmaster",
    "192.168.1.7",
    "10.0.0.1",
    "2001:db8::1",
    "dynamic-1-2-3-4.example.net",
    "/^.*$/",
]


def configured(path: Path) -> Iterator[Case]:
    """A file of somebody's configuration, taken as a source of every type."""
    data = path.read_bytes()
    words = {word for line in data.split(b"\n") for word in line.split()[:2]}
    stdin = b"\n".join(sorted(word for word in words if b"\0" not in word)[:200] + [encoded(line) for line in MAIL])
    for kind in (*SUFFIXES, "texthash", "regexp", "pcre", "cidr"):
        spec = f"{kind}:t"
        steps = [Step("postmap", [spec])] if kind in SUFFIXES else []
        steps.append(Step("postmap", ["-q", "-", spec], stdin))
        if kind in SUFFIXES:
            steps.append(Step("postmap", ["-s", spec], unordered=True))
        yield Case(f"{kind} {path}", {"t": data}, steps)
    yield Case(
        f"postalias {path}",
        {"t": data},
        [Step("postalias", ["hash:t"]), Step("postalias", ["-s", "hash:t"], unordered=True)],
    )
