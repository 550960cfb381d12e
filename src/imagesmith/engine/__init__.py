"""The one place that knows DBOS: queue, journal, cancel, recovery."""
