#!/usr/bin/env python3
"""Writes compat/COVERAGE.md and compat/coverage.json: what the recorded scenarios prove of the SMTP and LMTP client.

    tools/coverage.py            write the files
    tools/coverage.py --check    exit status 1 if they are not up to date
    tools/coverage.py --missing  print the parameters and texts without a scenario

Parameters: a scenario counts for a parameter that its main.cf sets when its value matters, which is measured: the
scenario is replayed without the parameter's lines, and something observable must change. Texts: every message in
compat/messages.txt and in the client's source code, and the recordings of the real Postfix in which it stands.
compat/elsewhere.txt says of what no scenario shows where else it is proved, and why.
"""

import ast
import json
import multiprocessing
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from postfixpy.config import database
from postfixpy.migrate import replay_smtp, scenario

TOP = Path(__file__).resolve().parent.parent
SCENARIOS = TOP / "compat/scenarios"
MARKDOWN, JSON = TOP / "compat/COVERAGE.md", TOP / "compat/coverage.json"
MESSAGES, ELSEWHERE = TOP / "compat/messages.txt", TOP / "compat/elsewhere.txt"
SOURCES = ["smtp", "tls", "sasl", "ipc/disposition.py", "ipc/flush.py"]
NOT_IN_A_DELIVERY = ["smtp/library.py", "smtp/memory.py", "smtp/names.py", "smtp/peers.py"]
SHARED = """
    address_verify_negative_cache allow_srv_lookup_fallback best_mx_transport config_directory
    connection_cache_protocol_timeout daemon_timeout debug_peer_level debug_peer_list delay_logging_resolution_limit
    disable_dns_lookups disable_mime_output_conversion dnssec_probe enable_original_recipient error_notice_recipient
    fallback_relay fast_flush_domains header_from_format header_size_limit helpful_warnings ignore_mx_lookup_error
    ignore_srv_lookup_error inet_interfaces inet_protocols info_log_address_format internal_mail_filter_classes
    ipc_timeout known_tcp_ports line_length_limit max_idle max_use mime_boundary_length_limit mime_nesting_limit
    notify_classes parent_domain_matches_subdomains process_id process_name propagate_unmatched_extensions
    proxy_interfaces recipient_delimiter relayhost requiretls_enable send_cyrus_sasl_authzid smtputf8_enable soft_bounce
    syslog_facility syslog_name tcp_windowsize tls_append_default_CA tls_config_file tls_config_name
    tls_daemon_random_bytes tls_dane_digests tls_disable_workarounds tls_eecdh_auto_curves tls_export_cipherlist
    tls_ffdhe_auto_groups tls_high_cipherlist tls_low_cipherlist tls_medium_cipherlist tls_null_cipherlist
    tls_required_enable tls_ssl_options use_srv_lookup
""".split()  # noqa: SIM905  # a list of words reads better so
"""Parameters of the manual, and newer ones, that do not begin with smtp_ or lmtp_."""
LIMITS = ["destination_concurrency_limit", "destination_recipient_limit"]
"""The queue manager's, in the client's manual."""


def parameters() -> list[str]:
    """The parameters that the client has, of all releases."""
    known = database().parameters
    own = [name for name in known if name.startswith(("smtp_", "lmtp_"))]
    limits = [f"{program}_{limit}" for program in ("smtp", "lmtp") for limit in LIMITS]
    return sorted({*own, *limits, *SHARED})


# What matters


def settings_of(main_cf: str) -> dict[str, str]:
    """Each name that is set, and the text without its lines."""
    logical = re.findall(r"^\S.*\n(?:[ \t].*\n)*", main_cf, flags=re.MULTILINE)
    names = {line.partition("=")[0].strip() for line in logical if not line.startswith("#")}
    return {name: "".join(line for line in logical if line.partition("=")[0].strip() != name) for name in sorted(names)}


REFERENCE = re.compile(r"(?<=\$)([({]?)(\w+)")


def variants(found: scenario.Scenario) -> Iterator[tuple[str, str]]:
    """Each parameter that main.cf sets or refers to, and the text of main.cf without that."""
    yield from settings_of(found.main_cf).items()
    for name in sorted({match[2] for match in REFERENCE.finditer(found.main_cf)} & {*SHARED}):
        # A name that is as long, so that no line is folded otherwise, and that nobody has.
        nobody = "x" * len(name)
        yield name, re.sub(rf"(?<=\$)([({{]?){name}\b", lambda m, new=nobody: m[1] + new, found.main_cf)


class Measured(NamedTuple):
    """The parameters that matter in a scenario; whether ours does what every recorded release did; whether only
    processes can show that (tools/replay.py --live does)."""

    matters: list[str]
    identical: bool
    live: bool


def measure(path: Path) -> Measured:
    """By replaying it."""
    found = scenario.read(path)
    if found.only_live:
        return Measured(found.live, True, True)

    def replay(release: str) -> str:
        with tempfile.TemporaryDirectory() as directory:
            try:
                return replay_smtp.replay(found, directory, release)
            except Exception as error:
                return f"{type(error).__name__}: {error}"

    # The name of an unused table or a second value for the same name leave lines that are no difference of behaviour.
    def observed(text: str) -> str:
        return re.sub(r"^log warning: .*overriding earlier entry.*\n", "", text, flags=re.MULTILINE)

    ours = {release: replay(release) for release in found.recorded}
    changed: dict[str, None] = {}
    for name, without in list(variants(found)):
        found.main_cf = without
        if any(observed(replay(release)) != observed(text) for release, text in reversed(ours.items())):
            changed[name] = None
    return Measured(list(changed), ours == found.recorded, False)


# Texts


def pattern_of(parts: list[str]) -> re.Pattern[str]:
    """Text with something between its parts."""
    return re.compile(".*".join(map(re.escape, parts)))


def specified() -> dict[str, re.Pattern[str]]:
    """The messages in compat/messages.txt."""
    lines = [line for line in MESSAGES.read_text().splitlines() if line and not line.startswith("# ")]
    return {line: pattern_of(re.split(r"<[A-Za-z_ ]+>", line)) for line in lines}


def texts() -> dict[str, re.Pattern[str]]:
    """The messages in the source code, with # for what is filled in."""
    out: dict[str, re.Pattern[str]] = {}
    for source in SOURCES:
        place = TOP / "postfixpy" / source
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if str(path.relative_to(TOP / "postfixpy")) not in NOT_IN_A_DELIVERY:
                for template in templates(ast.parse(path.read_text())):
                    out[template] = pattern_of(template.split("#"))
    return out


def templates(tree: ast.Module) -> Iterator[str]:
    """The string constants and f-strings of a module that are messages: several words, and not documentation."""
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if isinstance(parents[node], (ast.Expr, ast.JoinedStr)):
                continue
            template = node.value
        elif isinstance(node, ast.JoinedStr):
            template = "".join(str(part.value) if isinstance(part, ast.Constant) else "#" for part in node.values)
        else:
            continue
        if len(re.findall(r"[A-Za-z]{2,}", template)) >= 3 and " " in template.strip() and "\n" not in template:
            yield template


# The report

Entry = dict[str, object]


def elsewhere() -> dict[str, tuple[str, str]]:
    """compat/elsewhere.txt: of what no scenario shows, where it is proved, and why there. Raises ValueError."""
    found = {}
    for line in ELSEWHERE.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" | ")
            proof, _, why = rest.partition(" | ")
            if proof != "-":
                _check_proof(name, proof)
            found[name] = (proof, why)
    return found


def _check_proof(name: str, proof: str) -> None:
    """Whether the test or scenario is there. Raises ValueError."""
    path, _, test = proof.partition("::")
    if path.startswith("tests/"):
        text = (TOP / path).read_text() if (TOP / path).exists() else ""
        if not re.search(rf"^\s*(?:async )?def {test}\(", text, flags=re.MULTILINE):
            raise ValueError(f"{ELSEWHERE.name}: {name}: no such test: {proof}")
    elif not (SCENARIOS / f"{path}.txt").exists():
        raise ValueError(f"{ELSEWHERE.name}: {name}: no such scenario: {proof}")


def report() -> dict[str, dict[str, Entry]]:
    """What is proved, as data."""
    paths = [path for path in scenario.files([str(SCENARIOS)]) if scenario.read(path).recorded]
    names = {path: str(path.relative_to(SCENARIOS).with_suffix("")) for path in paths}
    with multiprocessing.get_context("fork").Pool() as pool:
        measured = dict(zip(paths, pool.imap(measure, paths, chunksize=4), strict=True))
    proofs: dict[str, list[str]] = defaultdict(list)
    for path, result in measured.items():
        for name in result.matters:
            proofs[name].append(names[path])
    recorded = {path: "\n".join({*scenario.read(path).recorded.values()}) for path in paths}
    broken = {names[path] for path, result in measured.items() if not result.identical}
    live = {names[path] for path, result in measured.items() if result.live}
    others = elsewhere()

    def entry(name: str, found: list[str]) -> Entry:
        proof, why = others.pop(name, ("", ""))
        if why and found:
            raise ValueError(f"{ELSEWHERE.name}: {name} has scenarios")
        same: object = not broken.intersection(found) if found else None
        out: Entry = {"scenarios": found, "identical": "live" if same and live.issuperset(found) else same}
        return out | ({"elsewhere": proof, "why": why} if why else {})

    def shown(patterns: dict[str, re.Pattern[str]]) -> dict[str, Entry]:
        return {
            text: entry(text, [names[path] for path in paths if pattern.search(recorded[path])])
            for text, pattern in sorted(patterns.items())
        }

    data = {
        "parameters": {name: entry(name, proofs.get(name, [])) for name in parameters()},
        "other parameters": {
            name: entry(name, found) for name, found in sorted(proofs.items()) if name not in parameters()
        },
        "messages": shown(specified()),
        "texts": shown(texts()),
    }
    if others:
        raise ValueError(f"{ELSEWHERE.name}: nothing is called {min(others)}")
    return data


def rows(entries: dict[str, Entry]) -> Iterator[str]:
    for name, entry in entries.items():
        found = entry["scenarios"]
        assert isinstance(found, list)
        if found:
            proof = f"{len(found)}: {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}"
        else:
            proof = "; ".join(str(entry[key]) for key in ("elsewhere", "why") if entry.get(key, "-") != "-")
        same = {None: "", True: "yes", False: "**no**", "live": "live"}[entry["identical"]]  # type: ignore[index]  # one of these
        yield f"| `{name.replace('|', '&#124;')}` | {proof or '**none**'} | {same} |"


TABLES = {
    "parameters": ("Parameters", "Parameter"),
    "other parameters": ("Parameters of other programs that matter in scenarios", "Parameter"),
    "messages": ("Messages of Postfix, by its specification (compat/messages.txt)", "<x> stands for what is filled in"),
    "texts": ("Messages in our source code", "# stands for what is filled in"),
}


def markdown(data: dict[str, dict[str, Entry]]) -> str:
    """The report for people."""
    out = [
        "# What the recorded scenarios prove",
        "",
        "Generated by tools/coverage.py. Do not edit. `compat/coverage.json` has all scenarios of each row.",
        "",
        "A scenario counts for a parameter when its value matters: replayed without it, something observable changes.",
        '"Identical": ours does in all of these scenarios what every recorded release of Postfix did; "live": that is',
        "seen between processes only (`make compat-live`). What no scenario can show is in `compat/elsewhere.txt`,",
        "with the test that shows it and the reason.",
        "",
    ]
    for key, (title, head) in TABLES.items():
        entries = data[key]
        proved = sum(bool(entry["scenarios"]) for entry in entries.values())
        others = sum("why" in entry for entry in entries.values())
        out += [f"## {title}", "", f"{proved} of {len(entries)} have a scenario; {others} are shown elsewhere.", ""]
        out += [f"| {head} | scenarios | identical |", "|---|---|---|", *rows(entries), ""]
    return "\n".join(out)


def main() -> int:
    data = report()
    if "--missing" in sys.argv[1:]:
        for key in TABLES:
            missing = [n for n, entry in data[key].items() if not entry["scenarios"] and "why" not in entry]
            print(f"== {key}", *missing, sep="\n")
        return 0
    files = {MARKDOWN: markdown(data), JSON: json.dumps(data, indent=1) + "\n"}
    if "--check" in sys.argv[1:]:
        return int(any(not path.exists() or path.read_text() != text for path, text in files.items()))
    for path, text in files.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
