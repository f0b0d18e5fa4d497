"""The long runs: what happens at exit, at Ctrl-C, over forks, loops, threads, panics, suspends, and to memory.

    python -m reliability                    # all of it, on every Python that is found; writes docs/reliability.*
    python -m reliability --quick            # a smoke run of a few each, which writes nothing
    python -m reliability --only exit        # experiments whose name contains this
    python -m reliability --render           # the page again, from docs/reliability.json

`experiments.py` says what is tried and how often, `programs/` holds what is run, `worker.py` runs it under one Python,
`__main__.py` under all of them, and `report.py` writes the page.
"""
