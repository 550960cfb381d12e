"""Known vulnerabilities of what an image holds: scanners behind one Protocol, and what they find."""
