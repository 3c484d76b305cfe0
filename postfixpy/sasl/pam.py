"""Users of the system, by PAM: the extra ``postfixpy[pam]``.

Each password is checked in a thread of its own (PAM waits after a wrong one), a few at a time. The account must be
valid, too: locked and expired accounts are refused. `service` names the file in /etc/pam.d; "smtp" is what Cyrus SASL
and dovecot's examples use. Reading /etc/shadow needs root: a process without it can check its own user only.
"""

import asyncio
import importlib.util
from typing import Any

from postfixpy.errors import FatalError

from .server import Refused, Users

_AT_ONCE = 20
_BROKEN = frozenset(
    ("PAM_ABORT", "PAM_AUTHINFO_UNAVAIL", "PAM_BUF_ERR", "PAM_CONV_ERR", "PAM_MODULE_UNKNOWN", "PAM_OPEN_ERR",
     "PAM_SERVICE_ERR", "PAM_SYMBOL_ERR", "PAM_SYSTEM_ERR")
)  # fmt: skip
"""What says nothing of the password."""


class Pam(Users):
    """Passwords of the PAM service `service`. Raises FatalError when the extra is not installed."""

    def __init__(self, service: str = "smtp") -> None:
        if importlib.util.find_spec("pam") is None:
            raise FatalError('PAM needs the extra: pip install "postfixpy[pam]"')
        self._service = service
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def check(self, user: str, password: str) -> bool:
        if "\0" in user or "\0" in password:
            return False
        async with self._room:
            return await asyncio.to_thread(self._check, user, password)

    def _check(self, user: str, password: str) -> bool:
        pam: Any = importlib.import_module("pam")
        found = pam.PamAuthenticator()
        # Without setcred: there is no session that could use credentials.
        if found.authenticate(user, password, self._service, resetcreds=False):
            return True
        if found.code in {getattr(pam, name) for name in _BROKEN}:
            raise Refused(f"PAM service {self._service}: {found.reason}", temporary=True)
        return False
