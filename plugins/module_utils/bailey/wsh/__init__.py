"""Talking to wshd, the first process of every container: its frames, and sessions in it."""
