"""TLS: what a handshake is asked and comes to (`handshake`), the engine on the system's libssl, contexts, DANE."""
