"""Wanda Lab: `python app.py` serves the page; a Hugging Face Space starts here too."""

from wanda_ui.page import serve

if __name__ == "__main__":
    serve()
