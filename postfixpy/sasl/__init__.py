"""SASL (RFC 4422): mechanisms of the client and of the server, the choice among them, and what they authenticate with.

    mechanism   what a client's mechanism is; errors with the words of Cyrus SASL
    simple, cram_md5, digest_md5, scram, bearer, ntlm, gssapi   the mechanisms
    choice      which mechanism to use of those that a server offers
    saslprep    preparation of names and passwords (RFC 4013)
    auth_cache  what smtp_sasl_auth_cache_name stores
    oauth2      access tokens: from files, fetched and refreshed, shared by all sessions; https carries the requests
    server      the server's side: mechanisms and the back ends that know the users (pam, dovecot, password_file)

Nothing here does input or output, but for the back ends, oauth2 and https.
"""
