"""Wanda Lab: `python app.py` serves the page; a Hugging Face Space starts here too."""

import os

# Before torch: its threads would otherwise spin while they wait, which starves whoever shares the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Packages start Python too, as for shared locks, and may be in a stranger's folder.
os.environ.setdefault("PYTHONSAFEPATH", "1")

from wanda_ui.start import serve

if __name__ == "__main__":
    serve()
