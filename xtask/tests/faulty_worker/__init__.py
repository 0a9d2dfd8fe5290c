"""A complete fake inference worker, good by default, that breaks one promise when told to.

See `../faulty_worker.py` for how it is run.
"""
