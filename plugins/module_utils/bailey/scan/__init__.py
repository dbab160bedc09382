"""The scan for hostile processes: what it looks for, what it finds, what it keeps of it."""
