"""Long-running experiments with the installed package: exits, Ctrl-C, forks, threads, panics, suspends, and memory.

    python -m reliability                    # all of it, on every Python that is found; writes docs/reliability.*
    python -m reliability --quick            # a smoke run of a few each, which writes nothing
    python -m reliability --only exit        # experiments whose name contains this
    python -m reliability --render           # the page again, from docs/reliability.json

`experiments.py` says what is tried and how often, `programs/` holds what is run, `worker.py` runs it under one Python,
`__main__.py` under all of them, and `report.py` writes the page.
"""
