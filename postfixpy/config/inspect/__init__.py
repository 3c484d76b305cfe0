"""What postconf knows about a configuration beyond the values: which names are valid, what is unused, undefined or
deprecated, how main.cf and master.cf are shown, and how they are edited.

rows         master.cf rows as postconf shows and edits them (not resolved, unlike postfixpy.config.master_cf)
names        the name spaces: compiled-in, service and user-defined parameters, and their values
tables       names that come with LDAP, SQL and other table clients
unused       warnings about unused and deprecated settings
text         folding, white space, JSON
show_main, show_master   listings
edit_main, edit_master   edits
origin       where values come from
document     --json
reference    a page of documentation for each parameter
builds       what a build supports: table types, lock methods, SASL and TLS
hash_order   the order in which Postfix visits its hash tables

spec/postconf.md is the specification of this package; the release asked for decides what a step does.
"""
