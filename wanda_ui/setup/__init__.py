"""The set-up on the left of the page: which model, what is done to it, and how far it is."""
