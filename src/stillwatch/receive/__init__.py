"""receive: logs pushed to us, and the middleware that writes one where a server has none."""
