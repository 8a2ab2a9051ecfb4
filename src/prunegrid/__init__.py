"""What does compressing this network do to its robustness? Train, prune and attack whole grids.

The two halves, `prunegrid.orchestrator` and `prunegrid.workers`, are the folders of those names at
the top of the repository; here they are links. The import name is one, whatever else is called
`workers` on a machine.
"""
