"""Tools: what other programs and assistants may ask of a server by name, off unless its owner switches them on."""
