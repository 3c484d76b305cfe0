#!/usr/bin/env python3
"""Writes compat/COVERAGE.md and compat/coverage.json: what the recorded scenarios prove of the SMTP and LMTP client.

    tools/coverage.py            write the files
    tools/coverage.py --check    exit status 1 if they are not up to date
    tools/coverage.py --missing  print the parameters and texts without a scenario

Parameters: a scenario counts for a parameter that its main.cf sets when its value matters, which is measured: the
scenario is replayed without the parameter's lines, and something observable must change. Texts: every message in the
client's source code, and the recordings of the real Postfix in which it stands.
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

from postfixpy.config import database
from postfixpy.migrate import replay_smtp, scenario

TOP = Path(__file__).resolve().parent.parent
SCENARIOS = TOP / "compat/scenarios"
MARKDOWN, JSON = TOP / "compat/COVERAGE.md", TOP / "compat/coverage.json"
SOURCES = ["smtp", "tls", "sasl", "ipc/disposition.py", "ipc/flush.py"]
NOT_IN_A_DELIVERY = ["smtp/library.py", "smtp/memory.py"]
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


def parameters() -> list[str]:
    """The parameters that the client has, of all releases."""
    known = database().parameters
    own = [name for name in known if name.startswith(("smtp_", "lmtp_"))]
    return sorted({*own, *SHARED})


# What matters


def settings_of(main_cf: str) -> dict[str, str]:
    """Each name that is set, and the text without its lines."""
    logical = re.findall(r"^\S.*\n(?:[ \t].*\n)*", main_cf, flags=re.MULTILINE)
    names = {line.partition("=")[0].strip() for line in logical if not line.startswith("#")}
    return {name: "".join(line for line in logical if line.partition("=")[0].strip() != name) for name in sorted(names)}


def measure(path: Path) -> tuple[list[str], bool]:
    """The parameters that matter in a scenario, and whether ours does what every recorded release did."""
    found = scenario.read(path)

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
    identical = ours == found.recorded
    newest, main_cf = list(found.recorded)[-1], found.main_cf
    matters = []
    for name, without in settings_of(main_cf).items():
        found.main_cf = without
        if observed(replay(newest)) != observed(ours[newest]):
            matters.append(name)
    return matters, identical


# Texts


def texts() -> dict[str, re.Pattern[str]]:
    """The messages in the source code: as a template with # for what is filled in, and as a pattern."""
    out: dict[str, re.Pattern[str]] = {}
    for source in SOURCES:
        place = TOP / "postfixpy" / source
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            if str(path.relative_to(TOP / "postfixpy")) not in NOT_IN_A_DELIVERY:
                for template in templates(ast.parse(path.read_text())):
                    parts = [re.escape(part) for part in template.split("#")]
                    out[template] = re.compile(".*".join(parts))
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


def report() -> dict[str, dict[str, dict[str, object]]]:
    """What is proved, as data."""
    paths = [path for path in scenario.files([str(SCENARIOS)]) if scenario.read(path).recorded]
    names = {path: str(path.relative_to(SCENARIOS).with_suffix("")) for path in paths}
    with multiprocessing.get_context("fork").Pool() as pool:
        measured = dict(zip(paths, pool.imap(measure, paths, chunksize=4), strict=True))
    proofs: dict[str, list[str]] = defaultdict(list)
    broken: set[str] = set()
    for path, (matters, identical) in measured.items():
        for name in matters:
            proofs[name].append(names[path])
        if not identical:
            broken.add(names[path])
    shown: dict[str, list[str]] = {template: [] for template in sorted(texts())}
    patterns = texts()
    for path in paths:
        recorded = "\n".join({*scenario.read(path).recorded.values()})
        for template, pattern in patterns.items():
            if max(template.split("#"), key=len) in recorded and pattern.search(recorded):
                shown[template].append(names[path])

    def entry(found: list[str]) -> dict[str, object]:
        return {"scenarios": found, "identical": not broken.intersection(found) if found else None}

    return {
        "parameters": {name: entry(proofs.get(name, [])) for name in parameters()},
        "other parameters": {name: entry(found) for name, found in sorted(proofs.items()) if name not in parameters()},
        "texts": {template: entry(found) for template, found in shown.items()},
    }


def rows(entries: dict[str, dict[str, object]], code: str = "`") -> Iterator[str]:
    for name, entry in entries.items():
        found = entry["scenarios"]
        assert isinstance(found, list)
        proof = f"{len(found)}: {', '.join(found[:3])}{', ...' if len(found) > 3 else ''}" if found else "**none**"
        same = {None: "", True: "yes", False: "**no**"}[entry["identical"]]  # type: ignore[index]  # one of these
        yield f"| {code}{name.replace('|', '&#124;')}{code} | {proof} | {same} |"


def markdown(data: dict[str, dict[str, dict[str, object]]]) -> str:
    """The report for people."""
    out = [
        "# What the recorded scenarios prove",
        "",
        "Generated by tools/coverage.py. Do not edit. `compat/coverage.json` has all scenarios of each row.",
        "",
        "A scenario counts for a parameter when its value matters: replayed without it, something observable changes.",
        '"Identical": ours does in all of these scenarios what every recorded release of Postfix did.',
        "",
    ]
    for title, key in (("Parameters", "parameters"), ("Messages of the client", "texts")):
        entries = data[key]
        proved = sum(bool(entry["scenarios"]) for entry in entries.values())
        out += [f"## {title}", "", f"{proved} of {len(entries)} have a scenario.", ""]
        out += [
            f"| {title[:-1] if key == 'parameters' else '# stands for what is filled in'} | scenarios | identical |"
        ]
        out += ["|---|---|---|", *rows(entries), ""]
        if key == "parameters":
            out += [
                "Parameters of other programs that matter in scenarios:",
                "",
                "| Parameter | scenarios | identical |",
            ]
            out += ["|---|---|---|", *rows(data["other parameters"]), ""]
    return "\n".join(out)


def main() -> int:
    data = report()
    if "--missing" in sys.argv[1:]:
        for key in ("parameters", "texts"):
            print(*(name for name, entry in data[key].items() if not entry["scenarios"]), sep="\n")
        return 0
    files = {MARKDOWN: markdown(data), JSON: json.dumps(data, indent=1) + "\n"}
    if "--check" in sys.argv[1:]:
        return int(any(not path.exists() or path.read_text() != text for path, text in files.items()))
    for path, text in files.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
