"""``sendmail -bs``: an SMTP conversation on standard input and output, as smtpd(8) in stand-alone mode.

The client is the local user, so there are no access restrictions; what it sends is posted like other local mail.
Replies, order of checks and limits are Postfix's: SIZE, 8BITMIME, DSN, SMTPUTF8, CHUNKING, pipelining, error limits
with pauses. ETRN is offered and then refused, as in Postfix.

| module | what |
|---|---|
| `conversation` | reading, writing, waiting and logging |
| `session` | commands and their replies; pure |
| `message` | one message: where its recipients and its content go |
| `options` | the ESMTP parameters of MAIL and RCPT |
| `words` | the words of commands: addresses, xtext |
| `lines` | lines from what arrives in pieces |

Differs from Postfix: warnings about posting are logged as smtpd, not as postdrop, and only logged; a command that is
too long for two buffers is one command; when a chunk is too big for 3.10 or later, nothing behind it is read. As in
Postfix, RET and ENVID are checked and then dropped in this mode, because postdrop does not get them.
"""
