"""The demo: peruserd's main job on a simulated cluster, shown live. It runs the same commands as an operator."""
