"""The client's parameters under any Postfix release: one that the release does not have yet reads as its first default.

So the client's code can use the parameters of the newest release, and still behaves like an old one when the
configuration is read as that release (postfixpy.config.load).
"""

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from postfixpy.config import View

_ABSENT: dict[str, Any] = {
    "allow_srv_lookup_fallback": False,
    "ignore_srv_lookup_error": False,
    "requiretls_enable": False,
    "smtp_log_tls_feature_status": False,
    "smtp_requiretls_policy": "",
    "smtp_sasl_password_result_delimiter": ":",
    "tls_required_enable": False,
    "use_srv_lookup": "",
}
"""What a release without the parameter does; for other parameters that is the newest default."""


class _AnyRelease:
    def __init__(self, view: "View") -> None:
        self._view = view
        self._newest: View | None = None

    def __getattr__(self, name: str) -> Any:
        if name in _ABSENT and self._view.parameter(name) is None:
            value = _ABSENT[name]
        else:
            try:
                value = getattr(self._view, name)
            except AttributeError:
                if name.startswith("_"):
                    raise
                value = self._default(name)
        self.__dict__[name] = value
        return value

    def _default(self, name: str) -> Any:
        if self._newest is None:
            from postfixpy.config import Configuration, database
            from postfixpy.config.main_cf import Settings
            from postfixpy.config.parameters import LATEST

            self._newest = Configuration("", Settings(""), database(LATEST)).view(lmtp=self._view.lmtp)
        return getattr(self._newest, name)


def any_release(view: "View") -> "View":
    """`view`, with the parameters of all releases."""
    from postfixpy.config.parameters import LATEST

    if ".".join(str(number) for number in view.release[:2]) == LATEST:
        return view
    return cast("View", _AnyRelease(view))
