"""The second part of the bench: running commands in containers, by wsh and by what a user would pick instead."""
