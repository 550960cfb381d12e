"""Builds of images, stage by stage, on instances.

image_run.py    the run of an image, and its stages      run.py, step_work.py    a workflow document, a step
steps/          one module per step action               kind.py, kinds.py       container and machine images
records.py      states of images                         executions.py           records of workflows and steps
attempts.py     a step whose process died                disk_space.py           a full disk
instances.py    instances of this worker                 worker_context.py       tools of a worker, its clean-up
"""
