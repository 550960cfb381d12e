"""Accounts, their access keys with secrets encrypted at rest, and the audit log of changes."""
