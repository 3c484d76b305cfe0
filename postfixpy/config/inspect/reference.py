"""The reference documentation: one page for each parameter, in Markdown, from the data alone.

What people read (a sentence, status, replacement, readers in Postfix) is data/reference.tsv; types, limits and
defaults by release are data/parameters.tsv. Which of our modules read a parameter and which recorded scenarios set
it is found by tools/build_reference.py and handed in, so that support is never claimed by hand.
"""

from __future__ import annotations

from postfixpy.config.parameters import RELEASES, RUNTIME, read_rows

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_KINDS = {
    "string": "text, with $ expansion",
    "raw": "text as written, without $ expansion",
    "int": "number",
    "long": "number",
    "nint": "number, with $ expansion",
    "time": "time",
    "bool": "yes or no",
    "nbool": "yes or no, with $ expansion",
}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Entry:
    """What is known about one parameter."""

    __slots__ = (
        *("deprecated", "history", "kind", "maximum", "minimum", "mirror", "name", "readers", "removed"),
        *("replacement", "sentence", "since", "status", "unit"),
    )

    def __init__(self, reference: list[str], facts: list[str] | None, mirror: str) -> None:
        self.name, self.status, self.since, self.removed, self.replacement, self.deprecated = reference[:6]
        self.readers, self.sentence = reference[6:]
        self.kind, self.unit, self.minimum, self.maximum, *self.history = facts[1:] if facts else ["", "", "", ""]
        self.mirror = mirror


def entries() -> list[Entry]:
    """All parameters, sorted by name."""
    facts = {row[0]: row for row in read_rows("parameters.tsv")}
    mirrors = {}
    for kind, *pair in read_rows("families.tsv"):
        if kind == "mirror":
            mirrors[pair[0]], mirrors[pair[1]] = pair[1], pair[0]
    rows = read_rows("reference.tsv")
    return [Entry(row, facts.get(row[0]), mirrors.get(row[0], "")) for row in sorted(rows)]


def _code(value: str) -> str:
    if value == RUNTIME:
        return "computed on the machine"
    if not value:
        return "(empty)"
    return f"`` {value} ``" if "`" in value else f"`{value}`"


def _limits(entry: Entry) -> str:
    what = "length " if entry.kind in ("string", "raw") else ""
    unit = " seconds" if entry.kind == "time" else ""
    parts = [
        f"{label} {what}{number}{unit}"
        for label, number in (("at least", entry.minimum), ("at most", entry.maximum))
        if number not in ("", "0")
    ]
    return ", ".join(parts)


def _defaults(entry: Entry) -> list[str]:
    lines = ["| from release | default |", "|---|---|"]
    for cell in entry.history:
        release, equals, value = cell.partition("=")
        shown = _code(value).replace("|", "\\|") if equals else "not a parameter"
        first = f"{release} and earlier" if release == RELEASES[0] and entry.since != RELEASES[0] else release
        lines.append(f"| {first} | {shown} |")
    return lines


def page(entry: Entry, readers: Sequence[str] = (), scenarios: Sequence[str] = ()) -> str:
    """The page of one parameter. `readers` are our modules that read it, `scenarios` recordings that set it."""
    lines = [f"# {entry.name}", "", entry.sentence, ""]
    if entry.kind:
        kind = _KINDS[entry.kind]
        if entry.unit:
            kind += f"; a number without unit is {_UNITS[entry.unit]}"
        limits = _limits(entry)
        lines.append(f"* Type: {kind}{'; ' + limits if limits else ''}")
    lines.append(f"* Status: {entry.status}")
    for label, value in (
        ("Since", entry.since),
        ("Removed, or made by master.cf services, in", entry.removed),
        ("Deprecated since", entry.deprecated),
        ("Replaced by", entry.replacement),
    ):
        if value:
            lines.append(f"* {label}: {value}")
    if entry.mirror:
        mode = "LMTP" if entry.mirror.startswith("lmtp_") else "SMTP"
        lines.append(f"* In {mode} mode: [{entry.mirror}]({entry.mirror}.md)")
    lines.append(f"* Read in Postfix by: {entry.readers or 'nothing'}")
    if entry.history:
        lines += ["", "## Default", "", *_defaults(entry)]
    lines += ["", "## In postfixpy", ""]
    lines.append(f"Read by {', '.join(readers)}." if readers else "Known to postconf, read by nothing else yet.")
    if scenarios:
        lines += ["", "Scenarios recorded from the real Postfix that set it:", ""]
        lines += [f"* {scenario}" for scenario in scenarios]
    return "\n".join(lines) + "\n"


def index(all_entries: Sequence[Entry], readers: Mapping[str, Sequence[str]]) -> str:
    """The page that lists all others."""
    current = [entry for entry in all_entries if entry.status in ("current", "deprecated")]
    supported = sum(bool(readers.get(entry.name)) for entry in current)
    first, last = RELEASES[0], RELEASES[-1]
    lines = [
        "# Parameters",
        "",
        f"{len(all_entries)} parameters of Postfix {first} to {last};"
        f" our programs read {supported} of the {len(current)} that {last} has.",
        "",
        "| parameter | status | since | read | |",
        "|---|---|---|---|---|",
    ]
    for entry in all_entries:
        read = "yes" if readers.get(entry.name) else ""
        link = f"[{entry.name}]({entry.name}.md)"
        lines.append(f"| {link} | {entry.status} | {entry.since} | {read} | {entry.sentence} |")
    return "\n".join(lines) + "\n"
