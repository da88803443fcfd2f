"""Reading one copy: rows, the checkpoint and its proof, the live feed and the scan."""
