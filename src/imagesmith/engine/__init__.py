"""The only package that uses DBOS: queues, journal, cancel, recovery.

process.py          launch, executor id, drain, close       run_queue.py       start, cancel, wake a run
run_execution.py    the workflow function of a run          active_runs.py     the runs of this process
slots.py            how many builds run at once             queue_poller.py    when a queue is polled
heartbeat.py        leases of workers                       takeover.py        the runs of a worker that died
dbos_import.py      DBOS without the driver of PostgreSQL   dbos_private.py    what DBOS does not publish
"""
