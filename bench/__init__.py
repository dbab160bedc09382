"""The bench: Bailey beside what a user would pick instead, on one engine, in one run, behind the same limits."""
