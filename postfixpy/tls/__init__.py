"""TLS policy, contexts, DANE, certificate matching. Not built yet: see ARCHITECTURE.md."""
