"""A class: how it finds the page in its own network, and the page on which a teacher reads what it handed in."""
