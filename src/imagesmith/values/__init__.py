"""Pure values: ARNs, versions, schedules, digests, diagnostics. No input or output happens here."""
