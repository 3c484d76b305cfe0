"""The SMTP and LMTP client: destinations, routes, sessions, transactions, content, outcomes."""
