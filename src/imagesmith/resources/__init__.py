"""The operations of the API: validate, decide, store, answer.

operations.py    the table of operations: a new one is a row     service.py       client tokens, effects
lists.py         pages, filters, page tokens                     call.py          dry run, the unit of work
resolution.py    references to resources                         roles.py         execution roles of requests
runs.py          the start of a run                              run_plans.py     the plan of its build
"""
