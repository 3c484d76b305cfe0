"""Write the reference documentation: a page for each parameter, and an index.

usage: tools/build_reference.py [DIRECTORY]

DIRECTORY is build/parameters if not given. The pages come from the parameter database, from where our modules read
a parameter (an attribute, or a string that is its name), and from the scenarios in compat/ whose main.cf or
master.cf set it.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from postfixpy.config.inspect import reference  # noqa: E402 - needs the path above

SUFFIX_CALLS = ("service_text", "service_integer", "service_time")


def names_in(path: Path) -> set[str]:
    """Attributes and string constants of a module, and the ``default_`` names behind service suffixes."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found | {f"default_{name.lstrip('_')}" for name in found if isinstance(name, str)}


def our_readers(names: set[str]) -> dict[str, list[str]]:
    """Parameter name to the modules outside the configuration room that read it."""
    readers: dict[str, list[str]] = {}
    for path in sorted((ROOT / "postfixpy").rglob("*.py")):
        module = path.relative_to(ROOT).as_posix()
        if module.startswith(("postfixpy/config/", "postfixpy/sink/")):
            continue
        for name in sorted(names_in(path) & names):
            readers.setdefault(name, []).append(module)
    return readers


def scenarios(names: set[str]) -> dict[str, list[str]]:
    """Parameter name to the scenario files that set it."""
    setting = re.compile(r"^(?:\s*-o\s*\{?\s*)?([A-Za-z0-9_]+)\s*=", re.MULTILINE)
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "compat").rglob("*.txt")):
        given = path.read_text(encoding="utf-8", errors="replace").partition("== recorded")[0]
        for name in sorted(set(setting.findall(given)) & names):
            found.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    return found


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    entries = reference.entries()
    names = {entry.name for entry in entries}
    readers, proofs = our_readers(names), scenarios(names)
    mirrors = {entry.name: entry.mirror for entry in entries if entry.name.startswith("lmtp_")}
    for lmtp, smtp in mirrors.items():
        readers.setdefault(lmtp, readers.get(smtp, []))  # one program reads the one as the other
    for entry in entries:
        text = reference.page(entry, readers.get(entry.name, ()), proofs.get(entry.name, ()))
        (directory / f"{entry.name}.md").write_text(text, encoding="utf-8")
    (directory / "index.md").write_text(reference.index(entries, readers), encoding="utf-8")
    read = sum(bool(readers.get(entry.name)) for entry in entries)
    print(f"wrote {len(entries)} pages to {directory}; {read} parameters are read, {len(proofs)} have a scenario")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/parameters")
