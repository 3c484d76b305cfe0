"""What every program refuses in main.cf: lines, and the complaint of Postfix 3.7, a warning before it if there is one.

``FILE`` stands for the path of main.cf.
"""

import grp

CASES: list[tuple[str, str]] = [
    (
        "myhostname = foo_bar!",
        "warning: valid_hostname: invalid character 33(decimal): foo_bar!\n"
        "fatal: file FILE: parameter myhostname: bad parameter value: foo_bar!",
    ),
    ("myhostname =", "fatal: bad string length 0 < 1: myhostname = "),
    (
        "mydomain = a..b",
        "warning: valid_hostname: misplaced delimiter: a..b\n"
        "fatal: file FILE: parameter mydomain: bad parameter value: a..b",
    ),
    ("mail_owner = root", "fatal: file FILE: parameter mail_owner: user root has privileged user ID"),
    ("mail_owner = no-such-user", "fatal: file FILE: parameter mail_owner: unknown user name value: no-such-user"),
    ("default_privs = root", "fatal: file FILE: parameter default_privs: user root has privileged user ID"),
    (
        "mail_owner = mail\ndefault_privs = mail",
        "fatal: file FILE: parameters default_privs and mail_owner specify the same user mail",
    ),
    ("setgid_group = no-such-group", "fatal: file FILE: parameter setgid_group: unknown group name: no-such-group"),
    ("setgid_group = root", "fatal: file FILE: parameter setgid_group: group root has privileged group ID"),
    (
        "mail_owner = mail\nsetgid_group = mail",
        "fatal: file FILE: parameters mail_owner and setgid_group: user mail and group mail have the same group ID: "
        f"{grp.getgrnam('mail').gr_gid}",
    ),
    ("soft_bounce = maybe", "fatal: bad boolean configuration: soft_bounce = maybe"),
    ("smtputf8_enable = 1", "fatal: bad boolean configuration: smtputf8_enable = 1"),
    ("message_size_limit = foo", "fatal: bad numerical configuration: message_size_limit = foo"),
    ("line_length_limit = 10", "fatal: invalid line_length_limit parameter value 10 < 512"),
    ("ipc_timeout = 3x", "fatal: parameter ipc_timeout: bad time value or unit: 3x"),
    ("in_flow_delay = 11", "fatal: invalid in_flow_delay: 11 (max 10)"),
    ("compatibility_level = x", 'fatal: malformed compatibility level syntax: "x"'),
    ("syslog_facility = nothing", "fatal: file FILE: parameter syslog_facility: unrecognized value: nothing"),
    ("inet_protocols = ipv5", 'fatal: unknown inet_protocols value "ipv5" in "ipv5"'),
    ("inet_interfaces = 9.9.9.9", "fatal: parameter inet_interfaces: no local interface found for 9.9.9.9"),
    (
        "inet_interfaces = 127.0.0.1, host.invalid",
        "fatal: config variable inet_interfaces: host not found: host.invalid",
    ),
    (
        "inet_interfaces = 9.9.9.9, host.invalid",
        "fatal: config variable inet_interfaces: host not found: host.invalid",
    ),
    ("mynetworks_style = bad", 'fatal: unknown mynetworks mask style value "bad" in "bad"'),
    (
        "myorigin = a.example, b.example",
        "fatal: myorigin parameter setting must not contain multiple values: a.example, b.example",
    ),
    (
        "relayhost = MAIL.example.com",
        "fatal: myhostname and relayhost parameter settings must not be identical: mail.example.com",
    ),
    ("default_verp_delimiters = +", "fatal: bad string length 1 < 2: default_verp_delimiters = +"),
    (
        "default_verp_delimiters = +x",
        "fatal: file FILE: parameters default_verp_delimiters and verp_delimiter_filter: bad second VERP delimiter "
        "character",
    ),
    (
        "relayhost = $a\na = $relayhost",
        'warning: unreasonable macro call nesting: "relayhost"\nfatal: dictionary mail_dict: macro processing error',
    ),
    (
        "myorigin = $mydomain ${foo",
        'warning: truncated macro reference: "$mydomain ${foo"\nfatal: dictionary mail_dict: macro processing error',
    ),
    ("syslog_name =\nmail_name =", "fatal: bad string length 0 < 1: mail_name = "),
    ("queue_directory =", "fatal: bad string length 0 < 1: queue_directory = "),
    ("soft_bounce = maybe\nmyhostname = !\ninet_protocols = x", 'fatal: unknown inet_protocols value "x" in "x"'),
    ("maillog_file_compressor =", "fatal: bad string length 0 < 1: maillog_file_compressor = "),
]
