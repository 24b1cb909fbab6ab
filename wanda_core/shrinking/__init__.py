"""Making a model smaller: what goes is gone, so that the result is an ordinary model of other sizes."""
