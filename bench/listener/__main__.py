"""`python -m bench.listener --output FILE`: the stages alone, measured by pyperf, whose options are the arguments."""

from bench.listener.stages import main

if __name__ == "__main__":
    main()
