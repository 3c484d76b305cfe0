#!/usr/bin/env python3
"""Which parameters of smtp(8) and lmtp(8) the scenarios turn, and which they do not.

tools/scenario_coverage.py            a line a parameter: its name, how many scenarios set it, one of them
tools/scenario_coverage.py --missing  only the parameters that no scenario sets
"""

import sys
from pathlib import Path

from postfixpy.config import database
from postfixpy.migrate import scenario

DIRECTORY = Path(__file__).resolve().parent.parent / "compat/scenarios/smtp"
SHARED = (
    "allow_srv_lookup_fallback", "best_mx_transport", "connection_cache_protocol_timeout", "disable_dns_lookups",
    "disable_mime_output_conversion", "debug_peer_list", "error_notice_recipient", "header_from_format",
    "ignore_mx_lookup_error", "ignore_srv_lookup_error", "inet_protocols", "info_log_address_format",
    "known_tcp_ports", "line_length_limit", "mime_nesting_limit", "notify_classes", "propagate_unmatched_extensions",
    "proxy_interfaces", "recipient_delimiter", "relayhost", "soft_bounce", "tcp_windowsize", "use_srv_lookup",
)  # fmt: skip


def main() -> int:
    used: dict[str, list[str]] = {}
    for path in sorted(DIRECTORY.glob("*.txt")):
        for line in scenario.parse(path.read_text()).main_cf.splitlines():
            used.setdefault(line.partition("=")[0].strip(), []).append(path.stem)
    names = [name for name in database().parameters if name.startswith(("smtp_", "lmtp_"))]
    missing = "--missing" in sys.argv
    for name in sorted({*names, *SHARED}):
        if name.startswith(("smtp_tls", "lmtp_tls", "smtp_tlsrpt")):
            continue  # issue 7
        found = used.get(name, [])
        if missing != bool(found):
            print(name if missing else f"{name}\t{len(found)}\t{found[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
