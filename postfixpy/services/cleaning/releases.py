"""Mail submission as an older Postfix release: a parameter that the release does not have reads as the value with which
the newest code does what that release did.

A View gives such a parameter its first default, which is nearly always that value; `_BEFORE` has the others.
"""

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from postfixpy.config import View

_BEFORE: dict[str, Any] = {
    "always_add_missing_headers": True,
    "cleanup_replace_stray_cr_lf": False,
    "header_from_format": "obsolete",
    "info_log_address_format": "internal",
    "requiretls_enable": False,
    "requiretls_esmtp_header": False,
    "sendmail_fix_line_endings": "strict",
    "smtputf8_autodetect_classes": "",
    "smtputf8_enable": False,
    "strict_smtputf8": False,
    "tls_required_enable": False,
}


class _AsBefore:
    def __init__(self, view: "View") -> None:
        self._view = view

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._view, name)
        if name in _BEFORE and self._view.parameter(name) is None:
            value = _BEFORE[name]
        self.__dict__[name] = value
        return value


def complete(view: "View") -> "View":
    """`view` with the parameters of all releases."""
    return view if view.release >= (3, 11) else cast("View", _AsBefore(view))
