"""What closes a host down beyond its containers' own limits: kernel features and mandatory access control."""
