"""Take it away: what made a variant, the command that makes it again, its checkpoint as one file or on the hub."""
