"""Warnings about settings that nothing uses and about deprecated ones, which postconf gives last.

(spec/postconf.md section 8; DEPRECATION_README.)
"""

from __future__ import annotations

from postfixpy import log

TYPE_CHECKING = False  # not typing's, whose import costs a command two milliseconds
if TYPE_CHECKING:
    from postfixpy.config.inspect.names import Names, Scope

POINTER = "See https://www.postfix.org/DEPRECATION_README.html for details"


def warn_unused(names: Names, *, main: bool = True) -> bool:
    """Warn about main.cf (if `main`) and then every row of master.cf. Returns whether something was deprecated."""
    if names.release < (2, 9):
        return False
    advice = {name: text for name, since, text in names.database.families["deprecated"] if names.database.known(since)}
    found = False
    if main:
        found = _warn_space(names, names.settings.values, None, advice)
    for scope in names.scopes:
        if scope.settings:
            found = _warn_space(names, scope.settings, scope, advice) or found
    return found


OURS = "postfixpy_"
"""What the names of our own parameters begin with (postfixpy.smtp.trace)."""


def _warn_space(names: Names, settings: dict[str, str], scope: Scope | None, advice: dict[str, str]) -> bool:
    where = names.source(scope)
    found = False
    order = sorted(settings) if names.release >= (3, 11) else names.hash_order(list(settings))
    for name in order:
        known = name in names.classes or (scope is not None and name in scope.valid)
        if name in advice:
            found = True
            if known:
                log.warning(f'{where}: support for parameter "{name}" will be removed; instead, {advice[name]}')
            else:
                log.warning(f"{where}: support for parameter {name} has been removed; instead, {advice[name]}")
        elif not known and not name.startswith(OURS):
            log.warning(f"{where}: unused parameter: {name}={settings[name]}")
    return found


def warn_deprecated_pointer(names: Names) -> None:
    """The pointer to the documentation, once, after everything else (3.11)."""
    if names.release >= (3, 11):
        log.warning(POINTER)
