"""OpenLineage events of jobs: what each has read and written, in which version; docs/lineage.md.

``observed`` takes note while a job runs, ``events`` makes events of it, ``sender`` keeps and sends
them, and ``job_run`` is what a command line calls.
"""
