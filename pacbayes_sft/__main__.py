"""``python -m pacbayes_sft`` is ``pacbayes-sft``."""

from pacbayes_sft.cli import main

if __name__ == "__main__":
    main()
