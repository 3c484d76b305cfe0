"""The states of a mail transaction: what is sent, how long to wait for the reply, and how texts name it.

One table (spec/smtp-client.md 6.2). `limit` is the parameter with the time limit; `doing` completes "lost connection
with HOST while ..."; `command` completes "host HOST said: ... (in reply to ...)".
"""

from typing import NamedTuple


class State(NamedTuple):
    limit: str
    doing: str
    command: str = ""


XFORWARD_CLIENT = State("smtp_xforward_timeout", "sending XFORWARD name/address", "XFORWARD name/address command")
XFORWARD_HELO = State("smtp_xforward_timeout", "sending XFORWARD protocol/helo_name", "XFORWARD helo/protocol command")
MAIL = State("smtp_mail_timeout", "sending MAIL FROM", "MAIL FROM command")
RCPT = State("smtp_rcpt_timeout", "sending RCPT TO", "RCPT TO command")
DATA = State("smtp_data_init_timeout", "sending DATA command", "DATA command")
CONTENT = State("smtp_data_xfer_timeout", "sending message body")
DOT = State(
    "smtp_data_done_timeout",
    "sending end of data -- message may be sent more than once",
    "end of DATA command",
)
ABORT = State("smtp_rset_timeout", "sending final RSET")
RSET = State("smtp_rset_timeout", "sending RSET probe")
QUIT = State("smtp_quit_timeout", "sending QUIT")

GREETING = State("smtp_helo_timeout", "receiving the initial server greeting")
EHLO = State("smtp_helo_timeout", "performing the EHLO handshake")
HELO = State("smtp_helo_timeout", "performing the HELO handshake")
LHLO = State("smtp_helo_timeout", "performing the LHLO handshake")
STARTTLS = State("smtp_starttls_timeout", "receiving the STARTTLS response")

SENDING_MAIL = frozenset((XFORWARD_CLIENT, XFORWARD_HELO, MAIL, RCPT, DATA, CONTENT, DOT))
"""States in which a lost connection means that the message was not delivered."""
