"""baileyd, the host's agent: it opens gates, restarts what ends, asks for health, and tells what it sees."""
