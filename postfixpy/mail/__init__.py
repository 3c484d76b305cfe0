"""The message: addresses and quoting, headers, MIME, queue files and their records, delivery requests and outcomes."""
