"""The decisions of trivial-rewrite(8): canonical form of addresses, transport table, route of a recipient."""
