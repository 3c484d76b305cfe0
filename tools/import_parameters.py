"""Make the parameter database of postfixpy/config/data/ from the shared research data.

usage: tools/import_parameters.py SHARED/params

Run once for every new Postfix release that the research data learns about; the result is committed and is from then on
the source of everything else (tools/build_parameters.py). What it writes, all tab-separated text, one record a line:

parameters.tsv  name, type, unit, min, max, then RELEASE=VALUE for every release where the default changed, and RELEASE
                alone where the name disappeared. A minimum or maximum is a length for strings, seconds for times.
types.tsv       the same first five columns for releases where they differed: UNTIL-RELEASE, name, type, unit, min, max.
families.tsv    names that are made, not listed: service suffixes, table-client suffixes, legacy and deprecated names,
                smtp_/lmtp_ pairs.
profile-debian.tsv   the compiled-in values of Debian's packages where they differ: name, RELEASE=VALUE...
builds.tsv      what -m, -a, -A, -l, -T print: profile, release, option, words.
reference.tsv   what only people read: name, status, since, removed, replacement, deprecation, readers, sentence.
"""

import json
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "postfixpy/config/data"
DEBIAN = {"3.5.25": "3.5", "3.7.11": "3.7", "3.10.13": "3.10", "3.11.7": "3.11"}
DEBIAN_OPENSSL = {
    "3.5": "OpenSSL 1.1.1w  11 Sep 2023",
    "3.7": "OpenSSL 3.0.11 19 Sep 2023",
    "3.10": "OpenSSL 3.5.6 7 Apr 2026",
    "3.11": "OpenSSL 3.6.4 25 Aug 2026",
}
"""What -T compile-version of these packages says."""
PLUGINS = {"cdb", "ldap", "lmdb", "mongodb", "mysql", "pcre", "pgsql", "sqlite"}
"""Table types that are packages of their own in Debian, so that the recordings tell what was installed."""
HOST = {"mydomain", "myhostname", "mynetworks", "process_id", "process_name"}


def order(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def cell(value: Any) -> str:
    return "" if value is None else str(value)


def limits(record: dict[str, Any], kind: str) -> list[str]:
    if kind in ("string", "raw"):
        return [cell(record.get("min_length")), cell(record.get("max_length"))]
    return [cell(record.get("min")), cell(record.get("max"))]


def write(name: str, rows: list[list[str]], header: str) -> None:
    for row in rows:
        for field in row:
            assert "\t" not in field and "\n" not in field, row
    text = "".join(f"# {line}\n" for line in header.splitlines()) + "".join("\t".join(row) + "\n" for row in rows)
    (DATA / name).write_text(text, encoding="utf-8")


def default_history(record: dict[str, Any]) -> list[str]:
    exact = record.get("defaults_exact", {})
    history = dict(record["defaults"])
    for release, value in exact.items():
        history[release] = value
    cells, previous = [], None
    for release in sorted(history, key=order):
        value = history[release]
        if cells and value == previous:
            continue
        cells.append(release if value is None else f"{release}={value}")
        previous = value
    return cells


def debian_listing(shared: Path, patch: str) -> dict[str, str]:
    listing = {}
    for line in (shared / f"debian/postconf-d-{patch}.txt").read_text().splitlines():
        name, _, value = line.partition(" = ")
        listing[name.removesuffix(" =")] = value
    return listing


def main(shared: Path) -> None:
    facts = json.loads((shared / "parameters.json").read_text())
    parameters: dict[str, dict[str, Any]] = facts["parameters"]
    rows, types, reference = [], [], []
    for name, record in sorted(parameters.items()):
        kind = record["type"].replace("raw string", "raw")
        reference.append(
            [
                name,
                record["status"],
                cell(record.get("since")),
                cell(record.get("removed") or record.get("service_dependent_since")),
                cell(record.get("obsolete_by")),
                cell(record.get("deprecated_since")),
                " ".join(record["daemons"]),
                record["description"],
            ]
        )
        if not record["defaults"]:
            continue
        rows.append([name, kind, cell(record["unit"]), *limits(record, kind), *default_history(record)])
        for change in record.get("type_history", []):
            was = change["was"]
            was_kind = was["type"].replace("raw string", "raw")
            unit = cell(record["unit"]) if was_kind == "time" else ""
            types.append([change["from"], name, was_kind, unit, cell(was["min"]), cell(was["max"])])
    write("parameters.tsv", rows, "name type unit min max RELEASE=DEFAULT... (tools/import_parameters.py)")
    write("types.tsv", types, "until name type unit min max")
    write("reference.tsv", reference, "name status since removed replacement deprecated readers sentence")

    families = []
    for suffix, record in facts["service_suffixes"].items():
        families.append(["suffix", suffix, record["since"], record["default"], " ".join(record["programs"])])
    for kind, suffixes in facts["dbms_suffixes"].items():
        for suffix, record in suffixes.items():
            families.append(["table", kind, suffix, record["since"], cell(record["until"])])
    seen: dict[str, str] = {}
    for release in sorted(facts["legacy_names"], key=order):
        for name in facts["legacy_names"][release]:
            seen.setdefault(name, release)
    families += [["legacy", name, release] for name, release in seen.items()]
    for name, record in facts["deprecated_3_11"].items():
        families.append(["deprecated", name, record["warned_since"], record["advice"]])
    families += [["mirror", smtp, lmtp] for smtp, lmtp in facts["smtp_lmtp"]["pairs"]]
    families += [["mirror", smtp, lmtp] for smtp, lmtp in facts["smtp_lmtp"]["renamed_counterparts"].items()]
    write("families.tsv", families, "made names; see tools/import_parameters.py")

    debian: dict[str, list[str]] = {}
    neutral_names = {row[0]: row for row in rows}
    for patch, release in DEBIAN.items():
        listing = debian_listing(shared, patch)
        neutral = {}
        for line in (shared / f"versions/{release}/postconf-d.txt").read_text().splitlines():
            name, _, value = line.partition(" = ")
            neutral[name.removesuffix(" =")] = value
        for name, value in neutral.items():
            if name in HOST:
                continue
            got = listing.get(name)
            if got != value or name in debian:
                debian.setdefault(name, []).append(release if got is None else f"{release}={got}")
        for name, value in listing.items():
            if name not in neutral and name in neutral_names:
                print("only in Debian:", release, name, value)
    write(
        "profile-debian.tsv",
        [[name, *history] for name, history in sorted(debian.items())],
        "compiled-in values of Debian's packages where they differ from a neutral build",
    )

    builds = []
    for folder in sorted((shared / "versions").iterdir(), key=lambda path: order(path.name)):
        for option, stem in (
            ("m", "m"),
            ("a", "a"),
            ("A", "A"),
            ("l", "l"),
            ("T:compile-version", "T-compile-version"),
            ("T:run-version", "T-run-version"),
            ("T:public-key-algorithms", "T-public-key-algorithms"),
        ):
            listing_file = folder / f"postconf-{stem}.txt"
            if listing_file.exists():
                builds.append(["upstream", folder.name, option, *listing_file.read_text().splitlines()])
    for patch, release in DEBIAN.items():
        words = (shared / f"debian/postconf-m-{patch}.txt").read_text().splitlines()
        builds.append(["debian", release, "m", *(word for word in words if word not in PLUGINS)])
        builds.append(["debian", release, "T:compile-version", DEBIAN_OPENSSL[release]])
    write("builds.tsv", builds, "profile release option line... : what postconf -OPTION prints")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
