"""The parameters of mail submission under any Postfix release: one that a release does not have yet has a value with
which the newest code does what that release did.
"""

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from postfixpy.config import View

_BEFORE: dict[str, Any] = {
    "always_add_missing_headers": True,
    "cleanup_replace_stray_cr_lf": False,
    "empty_address_local_login_sender_maps_lookup_key": "<>",
    "header_from_format": "obsolete",
    "info_log_address_format": "internal",
    "local_login_sender_maps": "static:*",
    "requiretls_enable": False,
    "requiretls_esmtp_header": False,
    "sendmail_fix_line_endings": "strict",
    "smtputf8_autodetect_classes": "",
    "smtputf8_enable": False,
    "strict_smtputf8": False,
    "tls_required_enable": False,
}
"""What a release did before it had the parameter, where that is not the parameter's first default."""


class _Complete:
    def __init__(self, view: "View") -> None:
        from postfixpy.smtp.parameters import any_release

        self._view = view
        self._newest = any_release(view)
        # Loads the newest parameters now: later the process may be in a chroot without our files.
        _ = self._newest.non_empty_end_of_header_action

    def __getattr__(self, name: str) -> Any:
        try:
            value = getattr(self._view, name)
        except AttributeError:
            if name.startswith("_"):
                raise
            value = self._before(name)
        self.__dict__[name] = value
        return value

    def _before(self, name: str) -> Any:
        return _BEFORE[name] if name in _BEFORE else getattr(self._newest, name)


def complete(view: "View") -> "View":
    """`view` with the parameters of all releases."""
    return view if view.release >= (3, 11) else cast("View", _Complete(view))
