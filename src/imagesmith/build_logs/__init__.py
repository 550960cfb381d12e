"""Logs of builds and pipelines: files, and their copies elsewhere.

    logs.py           the log files of a build and of its steps
    pipeline_log.py   the log file of a pipeline
    log_groups.py     second names of logs, under which log_shipping.py copies them to a bucket
    step_logs.py      copies of step logs in the bucket of an infrastructure configuration (s3Logs)
    shared_logs.py    logs in the shared store of all hosts, and their merge for a reader

builds/worker_context.py opens the logs of a build; wire/log_streams.py sends them as events.
"""
