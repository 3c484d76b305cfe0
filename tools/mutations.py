"""The mutations of tools/mutate.py: what a programmer could get wrong in our client, one mistake each."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """A mistake: in `module` of postfixpy, `old` (which occurs once) becomes `new`."""

    text: str
    module: str
    old: str
    new: str


M = Mutation
HELLO, ENVELOPE, TRANSACTION = "smtp/handshake.py", "smtp/envelope.py", "smtp/transaction.py"
CONTENT, FAILURE, AGENT, ROUTE = "smtp/content.py", "smtp/failure.py", "smtp/agent.py", "smtp/route.py"
CONNECTION = "smtp/connection.py"
STATES, REPLY, CHECKS, CACHE = "smtp/states.py", "smtp/reply.py", "smtp/checks.py", "smtp/cache.py"
GENERIC, NOTICE, SITE = "smtp/generic.py", "smtp/notice.py", "smtp/destination.py"

MUTATIONS = [
    # Greeting and EHLO
    M("EHLO with myhostname", HELLO, 'f"EHLO {view.smtp_helo_name}"', 'f"EHLO {view.myhostname}"'),
    M("HELO with myhostname", HELLO, 'f"HELO {view.smtp_helo_name}"', 'f"HELO {view.myhostname}"'),
    M("LHLO with EHLO", HELLO, 'f"LHLO {view.smtp_helo_name}"', 'f"EHLO {view.smtp_helo_name}"'),
    M("a 421 to EHLO leads to HELO", HELLO, "reply.code == 421", "reply.code == 422"),
    M("a 5xx greeting is hard", HELLO, 'reply.status = "4" + reply.status[1:]', "pass"),
    M("ESMTP stays on after HELO", HELLO, "        s.features &= ~feature.ESMTP\n    s.phase = states.HELO",
      "    s.phase = states.HELO"),
    M("PIX: a greeting without zeros", HELLO, '"20 *\\t\\n"', '"2 *\\t\\n"'),
    M("PIX: young mail is delayed", HELLO, "age < view.smtp_pix_workaround_threshold_time", "False"),
    M("PIX: the workarounds in another order", HELLO, "names = [word for word in _PIX_WORDS if",
      "names = [word for word in reversed(_PIX_WORDS) if"),
    M("own name in EHLO: the status of a best MX", HELLO, '"5.4.6" if s.has', '"5.4.7" if s.has'),
    M("own name in EHLO: the status of another", HELLO, 'else "4.4.6"', 'else "4.4.7"'),
    M("discarded keywords are used all the same", HELLO, "if keyword in discard or", "if"),
    M("discarded keywords are not logged", HELLO, '"SILENT-DISCARD" not in wanted', "False"),
    M("the number of SIZE is not used", HELLO, "s.size_limit = int(number[0])", "pass"),
    M("8BITMIME is not seen", HELLO, '"8BITMIME": feature.EIGHTBITMIME,', ""),
    M("PIPELINING is not seen", HELLO, '"PIPELINING": feature.PIPELINING,', ""),
    M("XFORWARD SOURCE is not seen", HELLO, '"SOURCE": feature.XFORWARD_SOURCE,', ""),
    # Envelope
    M("BODY=8BIT", ENVELOPE, '"BODY=8BITMIME"', '"BODY=8BIT"'),
    M("BODY=7BIT left out", ENVELOPE, 'words.append("BODY=7BIT")', "pass"),
    M("SIZE is one more", ENVELOPE, 'f"SIZE={r.size}"', 'f"SIZE={r.size + 1}"'),
    M("SIZE with converted content", ENVELOPE, "s.has(feature.SIZE) and not downgrading(d, s)", "s.has(feature.SIZE)"),
    M("RET the other way round", ENVELOPE, '"RET=FULL" if r.ret_flags == RET_FULL', '"RET=FULL" if r.ret_flags == RET_HDRS'),
    M("ENVID not in xtext", ENVELOPE, "ENVID={xtext(r.envelope_id, '=')}", "ENVID={r.envelope_id}"),
    M("xtext in lower case", ENVELOPE, '"+{code:02X}"', '"+{code:02x}"'),
    M("NOTIFY in another order", ENVELOPE, '(NOTIFY_SUCCESS, "SUCCESS"), (NOTIFY_FAILURE, "FAILURE")',
      '(NOTIFY_FAILURE, "FAILURE"), (NOTIFY_SUCCESS, "SUCCESS")'),
    M("ORCPT is dropped", ENVELOPE, "command += _orcpt(d, recipient)", "pass"),
    M("NOTIFY is dropped", ENVELOPE, "if recipient.notify:", "if False:"),
    M("addresses are not quoted", ENVELOPE, "quote_821_local(mapped) if d", "mapped if d"),
    M("AUTH=<> left out", ENVELOPE, 'words.append("AUTH=<>")', "pass"),
    M("XFORWARD SOURCE the other way round", ENVELOPE, '"LOCAL" if r', '"REMOTE" if not r'),
    M("XFORWARD of an unknown name", ENVELOPE, "_known(r.client_name)),", "True),"),
    # Transaction
    M("a message of just the size limit is refused", TRANSACTION, "s.size_limit < d.request.size", "s.size_limit <= d.request.size"),
    M("the status of a message too large", TRANSACTION, 'status="5.3.4"', 'status="5.2.3"'),
    M("twice as much is pipelined", TRANSACTION, "PIPELINE_BUFFER = 4096", "PIPELINE_BUFFER = 8192"),
    M("QUIT in place of RSET after refusals", TRANSACTION, 's.command("RSET")\n        self.waiting', 's.command("QUIT")\n        self.waiting'),
    M("no QUIT after the message", TRANSACTION, 'yield from self._command(states.QUIT, "QUIT")', "pass"),
    M("DATA although all recipients were refused", TRANSACTION, "(state is states.DATA and self.accepted == 0)", "False"),
    M("RCPT although MAIL was refused", TRANSACTION, "(state is states.RCPT and self.rejected)", "False"),
    M("250 to DATA is fine", TRANSACTION, "if reply.kind != 3:", "if reply.kind not in (2, 3):"),
    M("LMTP: replies for the wrong recipients", TRANSACTION, "self.survivors[self.answered]", "self.survivors[-1 - self.answered]"),
    M("LMTP: one reply less is read", TRANSACTION, "self.answered + 1 < self.accepted", "self.answered + 2 < self.accepted"),
    M("a probe without RSET", TRANSACTION, 'yield from self._command(states.ABORT, "RSET")', "pass"),
    M("a probe with DATA has another status", TRANSACTION, 'reply.status = "2.0.0"', "pass"),
    M("replies to RCPT after a refused MAIL count", TRANSACTION, "        if self.rejected:\n            return\n", ""),
    M("QUIT is waited for", TRANSACTION, "if self.s.settings.view.smtp_skip_quit_response or self.s.kept",
      "if self.s.kept"),
    M("conn_use is not counted", TRANSACTION, "reuse_count = self.s.reuse_count", "reuse_count = 0"),
    M("no delay before the final dot (PIX)", TRANSACTION, "if s.has(feature.PIX_DELAY_DOTCRLF):", "if False:"),
    M("a session from the cache is not asked", TRANSACTION, "return reply.kind == 2\n", "return True\n"),
    # Time limits and texts of the states
    M("time limit of RCPT", STATES, 'State("smtp_rcpt_timeout"', 'State("smtp_mail_timeout"'),
    M("time limit of MAIL", STATES, 'State("smtp_mail_timeout"', 'State("smtp_rcpt_timeout"'),
    M("time limit of DATA", STATES, '"smtp_data_init_timeout"', '"smtp_data_done_timeout"'),
    M("time limit of the final dot", STATES, '"smtp_data_done_timeout"', '"smtp_data_init_timeout"'),
    M("time limit of RSET after refusals", STATES, 'ABORT = State("smtp_rset_timeout"', 'ABORT = State("smtp_quit_timeout"'),
    M("time limit of QUIT", STATES, 'QUIT = State("smtp_quit_timeout"', 'QUIT = State("smtp_mail_timeout"'),
    M("time limit of the greeting", STATES, 'GREETING = State("smtp_helo_timeout"', 'GREETING = State("smtp_mail_timeout"'),
    M("text: in reply to MAIL", STATES, '"MAIL FROM command"', '"MAIL command"'),
    M("text: while sending the final dot", STATES, "message may be sent more than once", "message may be sent twice"),
    M("text: while receiving the greeting", STATES, "receiving the initial server greeting", "receiving the greeting"),
    # Content
    M("dots within lines are doubled", CONTENT,
      '        if self.start and data.startswith(b"."):\n            out += b"."\n        out += data\n        if kind',
      '        if data.startswith(b"."):\n            out += b"."\n        out += data\n        if kind'),
    M("dots are not doubled", CONTENT,
      '        if self.start and data.startswith(b"."):\n            out += b"."\n        out += data\n        if kind',
      "        out += data\n        if kind"),
    M("dots are not doubled in lines that are broken", CONTENT, '            if self.start and data.startswith(b"."):\n'
      '                out += b"."\n', ""),
    M("the blank of broken lines does not count", CONTENT, "self.left -= 1", "pass"),
    M("broken lines go on after a tab", CONTENT, 'out += b" "', 'out += b"\\t"'),
    M("breaking lines is not logged", CONTENT, "if lines.folded and not d.line_broken:", "if False:"),
    M("a last line without an end stays so", CONTENT, "if last == CONTINUED:", "if False:"),
    M("Return-Path without brackets", CONTENT, 'f"Return-Path: <{(yield from _external(d, d.request.sender))}>"',
      'f"Return-Path: {(yield from _external(d, d.request.sender))}"'),
    M("X-Original-To has the new address", CONTENT, "d.recipients[0].original", "d.recipients[0].address"),
    M("content is converted although 8BITMIME is offered", ENVELOPE, "not s.has(feature.EIGHTBITMIME)\n        and", "True and"),
    M("generic maps in all headers", CONTENT, "event.block == PRIMARY and known.roles", "known.roles"),
    # Checks, generic maps, notices
    M("header checks: REPLACE is not logged", CHECKS, "_log(d, command.lower(), where, text, argument)", "pass"),
    M("header checks: PREPEND comes instead", CHECKS, "prepend(argument)", "return argument"),
    M("header checks: IGNORE is logged", CHECKS, 'elif command == "STRIP":', 'elif command in ("STRIP", "IGNORE"):'),
    M("nested headers are checked as headers", CHECKS, "return settings.nested_header_checks", "return settings.header_checks"),
    M("MIME headers are checked as headers", CHECKS, "return settings.mime_header_checks", "return settings.header_checks"),
    M("generic maps: the extension is dropped", GENERIC, "add_extension(result, mapped.extension) if mapped.extension else result", "result"),
    M("generic maps: a header on one line", GENERIC, "_FOLD = 70", "_FOLD = 7000"),
    M("notices are wider", NOTICE, "_WIDTH, _INDENT = 78, 4", "_WIDTH, _INDENT = 79, 4"),
    M("notices of LMTP say SMTP", NOTICE, '"LMTP" if lmtp', '"SMTP" if lmtp'),
    M("a notice for mail without sender", CONNECTION, "return not sender or sender", "return sender"),
    # Failures
    M("text: said", FAILURE, "said: {reply.line} (in reply to", "said {reply.line} (in reply to"),
    M("text: refused to talk to me", FAILURE, "refused to talk to me", "refuses to talk to me"),
    M("status of a lost connection", FAILURE, 'DSN("4.4.2", "", text), throttle', 'DSN("4.4.1", "", text), throttle'),
    M("status of a protocol error", FAILURE, '"5.5.0"\n', '"5.5.1"\n'),
    M("500 is no protocol error", FAILURE, "500 <= code < 510", "501 <= code < 510"),
    M("diagnostic type", FAILURE, 'DSN(status, "", text, "smtp"', 'DSN(status, "", text, "x-smtp"'),
    M("a destination that took mail is throttled", FAILURE, "and not d.completed and d.hop", "and d.hop"),
    M("no destination is throttled", FAILURE, "d.hop = dsn", "pass"),
    M("a soft refusal of a recipient is final", FAILURE, "if (dsn.soft or soft_bounce) and not d.final_server:", "if False:"),
    M("soft_bounce does not try other servers", FAILURE, '(dsn.status.startswith("5") and d.settings.view.soft_bounce)', "False"),
    M("local data errors are not counted", FAILURE, 'd.session.errors.add("data")', "pass"),
    # Servers
    M("one address more than the limit", AGENT, "counts.addresses == counts.address_limit", "counts.addresses > counts.address_limit"),
    M("one session more than the limit", AGENT, "counts.sessions == counts.session_limit", "counts.sessions > counts.session_limit"),
    M("status of a refused connection", CONNECTION, 'DSN("4.4.1", "", f"connect to {server.host}[', 'DSN("4.4.2", "", f"connect to {server.host}['),
    M("a relayhost that fails hard bounces mail", AGENT, "elif relayhost:", "elif False:"),
    M("a fallback relay that fails hard bounces mail", AGENT, "        if fallback:\n", "        if False:\n"),
    M("fallback relays are not used", AGENT, "sites += destination.split_list(settings.view.smtp_fallback_relay)", "pass"),
    M("the server's name is the CNAME's", AGENT, "record.name if d.settings.view.smtp_cname_overrides_servername else record.query",
      "record.name"),
    M("no QUIT after a refused EHLO", AGENT, "yield from quit_session(session)\n            yield", "pass\n            yield"),
    M("the hint about port 465", AGENT, "site.port == 465", "site.port == 466"),
    M("hosts in the order of the answer", ROUTE, "sorted(answer.records, key=lambda record: record.preference)", "answer.records"),
    M("hosts in the wrong order", ROUTE, "addresses.sort(key=lambda record: (record.preference, settings.family_rank(record.rtype)))\n"
      "        route.addresses = balance(addresses, view.smtp_mx_address_limit, view.smtp_balance_inet_protocols)\n\n\ndef _truncate",
      "addresses.sort(key=lambda record: (-record.preference, settings.family_rank(record.rtype)))\n"
      "        route.addresses = balance(addresses, view.smtp_mx_address_limit, view.smtp_balance_inet_protocols)\n\n\ndef _truncate"),
    M("servers no better than this system are tried", ROUTE, "record.preference == own.preference)", "record is own)"),
    M("mail for a better MX that is gone bounces", ROUTE, '"4.4.4", f"unable to find', '"5.4.4", f"unable to find'),
    M("null MX: the status", ROUTE, 'Status.NULLMX: "5.1.0", Status.POLICY', 'Status.NULLMX: "5.1.2", Status.POLICY'),
    M("the families are not balanced", ROUTE, "half = limit // 2", "return addresses\n    half = limit // 2"),
    M("a soft failure becomes hard", ROUTE, '"4.4.4" if soft else "5.4.4"\n        else', '"5.4.4"\n        else'),
    M("default port", SITE, "service = service or default_service", 'service = service or "24"'),
    M("a domain in brackets is looked up by MX", SITE, 'literal = text.startswith("[")', "literal = False"),
    M("a reply's status may be of another class", REPLY, "status if status[:1] == digit else", "status if status else"),
    M("a reply with a longer code counts", REPLY, "(not match[2] and len(line) > 3)", "False"),
    M("replaced replies are not logged", REPLY, "log.info(f'{session.namaddrport}: replacing", "str(f'{session.namaddrport}: replacing"),
    M("cache: the session limit is one more", CACHE, "if count in (view.smtp_mx_session_limit,", "if count - 1 in (view.smtp_mx_session_limit,"),
    M("cache: never by destination", CACHE, "if addresses and cached.nexthop:", "if False:"),
]  # fmt: skip
