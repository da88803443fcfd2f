"""The demo: the main job on a simulated cluster, shown live. It runs the commands that an operator runs."""
