"""`python -m bench.pipeline --output FILE`: the stages alone, measured by pyperf, whose options are the arguments."""

from bench.pipeline.stages import main

if __name__ == "__main__":
    main()
