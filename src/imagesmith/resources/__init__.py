"""What each operation of the API means: validate, decide, store, answer."""
