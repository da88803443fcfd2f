"""The demo: the main job on a simulated cluster, shown live. What it runs are the commands an operator runs."""
