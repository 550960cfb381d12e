"""Known vulnerabilities of an image's packages: scanners behind one Protocol, and their findings."""
