"""Learning an encoder from scans without labels."""
