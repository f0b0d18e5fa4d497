"""What the client survives on the wire: bytes, statuses, TLS and proxies, played by a hostile server."""
